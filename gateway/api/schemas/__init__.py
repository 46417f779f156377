"""What requests and answers look like, for the documentation only: nothing is ever checked against these."""
