"""Wakes somebody: a notifier for the callbacks of tasks and Dags, by Slack, mail or a webhook."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier
from asgiref.sync import sync_to_async

from image_features import notice_formats, notices
from spark_apps.contract import BadSetting

if TYPE_CHECKING:
    from airflow.sdk import Context

TIMEOUT_SECONDS = 30
"""For the answer of a webhook; the other hooks have a limit of their own."""


class ImageFeaturesNotifier(BaseNotifier):
    """Tells what became of a run, in the words of its page: partition, verdict, the checks that did not pass with value
    and limit, the first files, and where the report and the log are.

    For `on_failure_callback`, `on_retry_callback` and `on_success_callback` of tasks and of Dags. A receiver that
    cannot be reached does not keep the others from being told.

    :param slack_webhook_conn_id: the connection of an incoming webhook of Slack. Needs the Slack provider.
    :param to: (templated) the receivers of a mail. Needs the SMTP provider.
    :param from_email: (templated) its sender; by default that of the connection.
    :param smtp_conn_id: the connection of the mail server.
    :param http_conn_id: the connection of a webhook, which is sent JSON (`Notice.record`). Needs the HTTP provider.
    :param endpoint: (templated) path of the webhook below the address of its connection.
    :param headers: further headers for the webhook.
    :param quiet: whether to say nothing where all is well: of a success only warnings are told then.
    :raises BadSetting: nobody is to be told, or a provider is not installed.
    """

    template_fields: Sequence[str] = ("to", "from_email", "endpoint")

    def __init__(
        self,
        *,
        slack_webhook_conn_id: str | None = None,
        to: str | Iterable[str] | None = None,
        from_email: str | None = None,
        smtp_conn_id: str = "smtp_default",
        http_conn_id: str | None = None,
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
        quiet: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.slack_webhook_conn_id = slack_webhook_conn_id
        self.to, self.from_email, self.smtp_conn_id = to, from_email, smtp_conn_id
        self.http_conn_id, self.endpoint, self.headers = http_conn_id, endpoint, dict(headers or {})
        self.quiet = quiet
        ways = {
            "slack": (slack_webhook_conn_id, self._slack),
            "smtp": (to, self._mail),
            "http": (http_conn_id, self._webhook),
        }
        self._ways = {provider: send for provider, (given, send) in ways.items() if given}
        if not self._ways:
            hint = f"Give {', '.join(_ARGUMENTS.values())}, or several of them."
            raise BadSetting("no_receiver", "ImageFeaturesNotifier has no receiver.", hint)
        for provider in self._ways:
            _check_provider(provider)

    def notify(self, context: Context) -> None:
        """Sends the notice; none of a task that has failed because another had, of which there was one.

        Raises:
            Exception: that of the first receiver who could not be reached; the others have been tried.
        """
        if getattr(context.get("exception"), "is_old_news", False):
            return
        notice = notices.of(context)
        if self.quiet and notice.tone in ("good", "neutral"):
            return
        problems = []
        for provider, send in self._ways.items():
            try:
                send(notice)
            except Exception as problem:
                self.log.warning("The notification by %s could not be sent: %s", provider, problem)
                problems.append(problem)
        if problems:
            raise problems[0]

    async def async_notify(self, context: Context) -> None:
        """The same in the triggerer."""
        await sync_to_async(self.notify)(context)

    def _slack(self, notice: notices.Notice) -> None:
        from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

        assert self.slack_webhook_conn_id is not None
        hook = SlackWebhookHook(slack_webhook_conn_id=self.slack_webhook_conn_id)
        hook.send(text=notice.title, blocks=notice_formats.slack_blocks(notice))

    def _mail(self, notice: notices.Notice) -> None:
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        assert self.to is not None
        with SmtpHook(smtp_conn_id=self.smtp_conn_id) as hook:
            hook.send_email_smtp(
                to=self.to, from_email=self.from_email, subject=notice.title, html_content=notice_formats.html(notice)
            )

    def _webhook(self, notice: notices.Notice) -> None:
        from airflow.providers.http.hooks.http import HttpHook

        assert self.http_conn_id is not None
        HttpHook("POST", self.http_conn_id).run(
            self.endpoint, json=notice.record(), headers=self.headers, extra_options={"timeout": TIMEOUT_SECONDS}
        )


_ARGUMENTS = {"slack": "slack_webhook_conn_id", "smtp": "to", "http": "http_conn_id"}
"""Provider → the argument that asks for it."""


def _check_provider(name: str) -> None:
    if importlib.util.find_spec(f"airflow.providers.{name}") is None:
        package = f"apache-airflow-providers-{name}"
        raise BadSetting(
            "no_provider",
            f"{_ARGUMENTS[name]} of ImageFeaturesNotifier needs the package {package}, which is not installed here.",
            f"pip install {package} beside Airflow, where its tasks run and its Dags are parsed.",
        )
