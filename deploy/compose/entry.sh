#!/usr/bin/env bash
# What a container of docker-compose.yaml does: entry.sh ROLE. Any other command is run as it is.
set -euo pipefail
umask 027

# Settings of Spark: those that all processes share, those of the arguments, and the secret they know each other by. A
# driver on a standalone cluster takes the secret from its settings only; a file keeps it out of arguments and of the
# jobs' environment. How many tasks run at once is said beforehand: a job cuts its work before all executors have come.
spark_settings() {
    (
        umask 077
        cat /opt/image-features/deploy/compose/spark-defaults.conf - >"$SPARK_CONF_DIR/spark-defaults.conf" <<END
$SPARK_SETTINGS
spark.default.parallelism  $((SPARK_WORKERS * SPARK_WORKER_CORES))
spark.authenticate.secret  $SPARK_AUTH_SECRET
$*
END
    )
    unset SPARK_AUTH_SECRET SPARK_SETTINGS
}

spark() {
    spark_settings
    exec spark-class "org.apache.spark.deploy.$1" "${@:2}"
}

case "${1:-}" in
    init)
        exec airflow db migrate
        ;;
    api-server)
        (umask 077 && python /opt/image-features/deploy/compose/password.py)
        unset AIRFLOW_ADMIN_PASSWORD
        exec airflow api-server
        ;;
    scheduler)
        spark_settings spark.driver.host spark-driver # there the workers reach it, and only there it listens
        exec airflow scheduler --skip-serve-logs
        ;;
    dag-processor)
        exec airflow dag-processor
        ;;
    triggerer)
        exec airflow triggerer --skip-serve-logs
        ;;
    spark-master)
        spark master.Master --host spark-master --port 7077 --webui-port 8080
        ;;
    spark-worker)
        spark worker.Worker --webui-port 8081 --work-dir /opt/spark/apps spark://spark-master:7077
        ;;
    history-server)
        spark history.HistoryServer
        ;;
    buckets)
        exec python /opt/image-features/deploy/compose/buckets.py "${@:2}"
        ;;
    *)
        exec "$@"
        ;;
esac
