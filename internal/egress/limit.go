package egress

// defaultMaxInFlight leaves half of the open files to everything else: an exchange in flight takes up to 3 sockets
// while it tries both address families, and as many connections again may be idle: 3/8 + 1/8. (Looking up a name takes
// 2, which Go's resolver keeps for up to 5 s after a lookup was cut off; then the exchange got no further.)
// More than 2,048 at once would cost more memory than they bring.
func defaultMaxInFlight() int {
	return int(min(2048, max(8, openFileLimit()/8)))
}
