package fuzzing

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostKept bounds an input that is kept.
const mostKept = 4 << 10

// Corpus keeps those inputs of a long form that reach code that none before has reached, where `go test` runs them as seeds of
// the fuzz target: testdata/fuzz.
type Corpus struct {
	dir  string
	mu   sync.Mutex
	best float64 // the part of the code that is covered
}

// KeepCorpus is the corpus of a fuzz target where MATHUB_FUZZ_KEEP is set, of a test that is run with -cover; else nil, which
// keeps none.
func KeepCorpus(target string) *Corpus {
	if os.Getenv("MATHUB_FUZZ_KEEP") == "" {
		return nil
	}
	return &Corpus{dir: filepath.Join("testdata", "fuzz", target)}
}

// Offer keeps the arguments of the fuzz target, of an input that has just been run, if they reached new code.
func (c *Corpus) Offer(t testing.TB, arguments ...any) {
	if c == nil {
		return
	}
	t.Helper()
	var b strings.Builder
	b.WriteString("go test fuzz v1\n")
	for _, a := range arguments {
		switch a := a.(type) {
		case string:
			fmt.Fprintf(&b, "string(%q)\n", a)
		case []byte:
			fmt.Fprintf(&b, "[]byte(%q)\n", a)
		default:
			fmt.Fprintf(&b, "%T(%v)\n", a, a)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	covered := testing.Coverage()
	if covered <= c.best || b.Len() > mostKept {
		return
	}
	c.best = covered
	require.NoError(t, os.MkdirAll(c.dir, 0o750))
	name := fmt.Sprintf("%x", sha256.Sum256([]byte(b.String())))[:16]
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, name), []byte(b.String()), 0o600))
}
