"""The libraries measured beside this one, and the bare loop that bounds what eager torch can do."""
