"""The demo: real servers on loopback, a shop that lives, and one command that shows it all."""
