package simulation

import (
	"flag"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

var (
	seed   = flag.Uint64("seed", 0, "run the schedule of this seed only, and print it")
	broken = flag.Uint64("broken", 0, "the rules to take out of it")
)

// try runs a seed and returns what it violated, and, if it is to be verbose, its schedule and log.
func try(seed uint64, broken rule, verbose bool) (violation, log string, s *sim) {
	p := draw(rand.New(rand.NewPCG(seed, 1)))
	s = newSim(p, rand.New(rand.NewPCG(seed, 2)), broken)
	s.verbose = verbose
	s.run()
	if verbose {
		log = p.String() + strings.Join(s.log, "\n")
	}
	return s.checks.violation, log, s
}

func TestSchedules(t *testing.T) {
	if *seed > 0 {
		violation, log, _ := try(*seed, rule(*broken), true)
		t.Logf("seed %d\n%s", *seed, log)
		if violation != "" {
			t.Fatalf("seed %d: %s", *seed, violation)
		}
		return
	}
	n := uint64(2000)
	if os.Getenv("MATHUB_SOAK") != "" {
		n = 100_000
	}
	failed := 0
	for i := uint64(1); i <= n; i++ {
		if violation, _, s := try(i, rule(*broken), false); violation != "" {
			t.Errorf("seed %d (%s): %s", i, s.plan.name, violation)
			if failed++; failed > 20 {
				t.Fatal("too many")
			}
		}
	}
}
