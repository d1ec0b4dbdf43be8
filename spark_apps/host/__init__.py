"""What this machine gives a process: its user and home, its cores."""
