package delivery

import gometrics "runtime/metrics"

const (
	// scarceWait is how long a goroutine that could run waits for a processor where these are scarce.
	scarceWait = 2e-3 // s
	// scarceShare is the share of the goroutines that wait so long where processors are scarce. A process that has enough lets
	// less than one in a thousand wait so long, one that has more to deliver than it can one in three to one in ten.
	scarceShare = 0.1
)

// processors finds out whether this process has too few. Not safe for concurrent use. The zero value is ready.
type processors struct {
	sample [1]gometrics.Sample
	before []uint64 // the histogram's counts when it was last read
}

// scarce says whether processors were scarce since it was last called.
func (p *processors) scarce() bool {
	p.sample[0].Name = "/sched/latencies:seconds"
	gometrics.Read(p.sample[:])
	return p.scarceBy(p.sample[0].Value.Float64Histogram())
}

// scarceBy is scarce by how long goroutines have waited since the process began.
func (p *processors) scarceBy(waits *gometrics.Float64Histogram) bool {
	var all, long uint64
	for i, n := range waits.Counts {
		if i < len(p.before) {
			n -= p.before[i]
		}
		all += n
		if waits.Buckets[i] >= scarceWait {
			long += n
		}
	}
	p.before = append(p.before[:0], waits.Counts...)
	return long > 0 && float64(long) >= scarceShare*float64(all)
}
