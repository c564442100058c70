"""The front door: HTTP in, results out by status, stream and page. `callstream.web.app.build_web` puts it together."""
