"""The server: models over HTTP, in the shapes that clients already speak. Needs the extra `triform[serve]`.

HTTP → endpoint (key, admission, body) → route → call → executor (one thread, all models) → answer or events
"""
