"""The pages: what ran, what came out, what was refused, and whether it is good. See docs/pages.md.

Nothing is imported here. Registering the plugin needs `views`, the api-server needs `app`; everything that reads the
store loads pyarrow, deltalake and numpy at the first request.
"""
