package egress

// CouldBeOurs says of a class of failure whether a fault of our own network could look like it.
func CouldBeOurs(class string) bool { return class == "dns" || class == "tls" }
