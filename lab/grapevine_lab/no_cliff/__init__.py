"""Does a server that comes and goes leave a mark? Falls of the released models around it, and what each way costs."""
