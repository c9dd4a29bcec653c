"""Runners, one vendor library a file, and the session that an application embeds."""
