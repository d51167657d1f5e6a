"""The v2 HTTP API: the key space (`keys`), and members, statistics and machines (`admin`)."""
