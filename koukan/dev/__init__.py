"""A mail world on loopback to try Koukan in: a recording SMTP sink, a sample receiver, and everything together."""
