"""Who is there, and what spreads among them."""
