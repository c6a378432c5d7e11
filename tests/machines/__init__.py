"""Several machines in small: process groups that share nothing but a broker."""
