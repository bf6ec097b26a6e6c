// Package openfiles divides what files and sockets a process may have open: half are for deliveries, three eighths for its
// listeners, and the rest is for everything else, such as Postgres and Temporal.
package openfiles

// Enough is a limit from which on a process does as much at once as it ever does.
const Enough = 16_384

// InFlight is how many deliveries may be in flight, from 8 to 2,048: more would cost more memory than they bring. One takes
// up to 3 sockets while it tries both address families, and as many connections again may be idle: 3/8 + 1/8. (Looking up a
// name takes 2, which Go's resolver keeps for up to 5 s after a lookup was cut off; then the delivery got no further.)
func InFlight() int { return min(2048, max(8, Limit()/8)) }

// Connections is how many a listener holds, from 8 to 2,000. A process has two at most, and neither takes the other's.
func Connections() int { return min(2000, max(8, Limit()*3/16)) }
