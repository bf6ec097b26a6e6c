package simulation

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
)

var (
	seed   = flag.Uint64("seed", 0, "run the schedule of this seed only, and print it")
	kind   = flag.String("kind", "", "of this kind only: storm, people, backlog, restart, forGood or inOrder")
	seeds  = flag.Uint64("seeds", 0, "run so many schedules")
	broken = flag.Uint64("broken", 0, "the rules to take out of it")
)

// mostLines of a failing schedule's log are printed; with -seed, all.
const mostLines = 200

// try runs a seed and returns what it violated, and, if it is to be verbose, its schedule and log.
func try(seed uint64, kinds []profile, broken rule, verbose bool) (violation, log string, s *sim) {
	p := draw(rand.New(rand.NewPCG(seed, 1)), kinds)
	s = newSim(p, rand.New(rand.NewPCG(seed, 2)), broken)
	s.verbose = verbose
	s.run()
	if verbose {
		log = p.String() + strings.Join(s.log, "\n")
	}
	return s.checks.violation, log, s
}

func TestSchedules(t *testing.T) {
	kinds := profiles
	if only := map[string]profile{"storm": storm, "people": people, "backlog": backlog, "restart": restart, "forGood": forGood, "inOrder": inOrder}[*kind]; only != nil {
		kinds = []profile{only}
	}
	if *seed > 0 {
		violation, log, _ := try(*seed, kinds, rule(*broken), true)
		t.Logf("seed %d\n%s", *seed, log)
		if violation != "" {
			t.Fatalf("seed %d: %s", *seed, violation)
		}
		return
	}
	n, parts := uint64(2000), uint64(runtime.GOMAXPROCS(0))
	switch {
	case *seeds > 0:
		n = *seeds
	case os.Getenv("MATHUB_SOAK") != "":
		n = 100_000
	case testing.Short():
		n = 300
	}
	for part := range parts {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			for i := 1 + part; i <= n; i += parts {
				requireHolds(t, i, kinds)
			}
		})
	}
}

// requireHolds runs a seed; one that fails is run again for its log.
func requireHolds(t *testing.T, seed uint64, kinds []profile) {
	violation, _, s := try(seed, kinds, rule(*broken), false)
	if violation == "" {
		return
	}
	_, log, _ := try(seed, kinds, rule(*broken), true)
	if lines := strings.Split(log, "\n"); len(lines) > mostLines {
		log = strings.Join(lines[:mostLines/2], "\n") + "\n…\n" + strings.Join(lines[len(lines)-mostLines/2:], "\n")
	}
	t.Errorf("seed %d (%s): %s; go test ./internal/simulation -v -run TestSchedules -seed %d prints it\n%s", seed, s.plan.name, violation, seed, log)
}
