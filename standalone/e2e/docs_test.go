package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

const root = "../.."

// block is a code block of a page that an HTML comment marks: see CONTRIBUTING.md.
type block struct {
	name, prints, until, from string
	language, text            string
}

var (
	marked  = regexp.MustCompile("(?ms)^<!-- (test|from): (.*?) -->\n```(\\w+)\n(.*?)^```$")
	marking = regexp.MustCompile(`(?m)^<!-- *(test|from) *:`)
)

func blocks(t *testing.T, page string) (found []block) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, page))
	require.NoError(t, err)
	for _, m := range marked.FindAllStringSubmatch(string(raw), -1) {
		b := block{language: m[3], text: m[4]}
		if m[1] == "from" {
			b.name, b.from = m[2], m[2]
		} else {
			b.name = m[2]
			b.name, b.until, _ = strings.Cut(b.name, ", until: ")
			b.name, b.prints, _ = strings.Cut(b.name, ", prints: ")
		}
		found = append(found, b)
	}
	require.Len(t, marking.FindAllString(string(raw), -1), len(found), "%s: a marking without a block", page)
	return found
}

// TestDocs runs the marked code blocks of README and docs, page by page.
func TestDocs(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	pages = append(pages, filepath.Join(root, "README.md"))
	// Further checks of what a page's blocks did.
	after := map[string]func(t *testing.T, p *page){
		"docs/cli.md": func(t *testing.T, p *page) {
			p.receiver.Await(t, "/hook", 8) // five forwarded, two tests, a redelivery
			require.Empty(t, p.bot.Webhooks(t))
		},
	}
	ran := map[string]bool{}
	for _, path := range pages {
		name, err := filepath.Rel(root, path)
		require.NoError(t, err)
		found := blocks(t, name)
		if len(found) == 0 {
			continue
		}
		ran[name] = true
		shells, first := []string{"bash"}, name == "README.md" || name == "docs/quick-start.md"
		if first { // what newcomers paste
			shells = append(shells, "zsh", "fish")
		}
		for _, shell := range shells {
			t.Run(name+" in "+shell, func(t *testing.T) {
				p := openPage(t, stack)
				p.shell = shell
				if !first {
					p.follow(stack.API())
				}
				if !slices.ContainsFunc(found, func(b block) bool { return strings.Contains(b.text, "WEBHOOK=") }) {
					p.subscribe(t)
				}
				for _, b := range found {
					p.run(t, b)
				}
				if check := after[name]; check != nil {
					check(t, p)
				}
			})
		}
	}
	for _, name := range []string{"README.md", "docs/cli.md", "docs/failures.md", "docs/polling.md", "docs/quick-start.md", "docs/verifying-signatures.md"} {
		require.True(t, ran[name], "%s has no blocks that run", name)
	}
}

// page is where the blocks of one page run: in the repository's folder, with a bot of their own.
type page struct {
	shell    string
	bot      *testkit.Bot
	receiver *testkit.Receiver
	terminal *terminal
	replaced *strings.Replacer
	output   *os.File // of all blocks: those in the background go on printing
	state    string   // the shell's variables after the last block
}

// listening waits for a receiver that is starting, as beside other work two seconds are not always enough.
const listening = "curl -s -o /dev/null --retry 100 --retry-delay 1 --retry-connrefused"

// follow sets what the pages that come after the quick start take from it.
func (p *page) follow(api *testkit.API) {
	p.terminal.env = append(p.terminal.env,
		"API="+api.URL, "KEY="+p.bot.Key, "TOKEN="+api.ServiceToken,
		"W="+api.URL+"/api/bot/v1/webhooks", "A=Authorization: Bearer "+p.bot.Key, "J=Content-Type: application/json")
}

// openPage is a page with no more set than .data/env sets.
func openPage(t *testing.T, stack *testkit.Stack) *page {
	t.Helper()
	api := stack.API()
	p := &page{bot: api.CreateBot(t, "docs"), receiver: testkit.NewReceiver(t), state: filepath.Join(t.TempDir(), "state")}
	p.terminal = openTerminal(t, stack, p.bot)
	for _, name := range []string{"MATHUB_DATABASE_URL", "MATHUB_KEYSET", "MATHUB_EGRESS_ALLOW", "MATHUB_EGRESS_ALLOW_HTTP"} { // for "bot set"
		p.terminal.env = append(p.terminal.env, name+"="+stack.Env(name))
	}
	port, err := freeport.Find()
	require.NoError(t, err)
	p.replaced = strings.NewReplacer(
		"source .data/env", ": as it is set", // TestFirstHour sources it
		`receiver.py "$SECRET" & sleep 2`, fmt.Sprintf(`receiver.py "$SECRET" %[1]d & %s 127.0.0.1:%[1]d`, port, listening),
		"127.0.0.1:9000", "127.0.0.1:"+strconv.Itoa(port),
		"http://localhost:3000/hook", p.receiver.URL("/hook"),
		"https://bots.example.org/", p.receiver.URL("/"),
		"bot-lemma", p.bot.ID)
	p.output, err = os.Create(filepath.Join(t.TempDir(), "output"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.output.Close() })
	return p
}

// subscribe makes the webhook of a page that makes none itself, with a delivery in its history.
func (p *page) subscribe(t *testing.T) {
	t.Helper()
	hook := p.bot.CreateWebhook(t, p.receiver.URL("/known"), "", post)
	p.bot.Test(t, hook.ID)
	p.terminal.env = append(p.terminal.env, "WEBHOOK="+hook.ID)
}

// printed is what was printed since the output had that length.
func (p *page) printed(t *testing.T, since int) string {
	t.Helper()
	raw, err := os.ReadFile(p.output.Name())
	require.NoError(t, err)
	return string(raw[since:])
}

// fishScript runs a block in fish, with the variables of the blocks before it.
const fishScript = `test -e '%[1]s'; and source '%[1]s'
%[2]s
or exit 1
for name in (set --names --export | string match --invert --regex '^(PWD|SHLVL|_)$')
	echo set --global --export $name (string escape -- $$name)
end > '%[1]s'
`

func (p *page) run(t *testing.T, b block) {
	t.Helper()
	if b.from != "" {
		source, err := os.ReadFile(filepath.Join(root, b.from))
		require.NoError(t, err)
		for line := range strings.Lines(b.text) {
			require.Contains(t, string(source), strings.TrimSpace(line), "%s", b.from)
		}
		return
	}
	text := p.replaced.Replace(b.text)
	if p.shell == "zsh" {
		require.NotRegexp(t, `(?m)(^|\s)#`, text, "a zsh that someone types into knows no comments")
	}
	var cmd *exec.Cmd
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	switch b.language {
	case "sh":
		// What it assigns is exported, and so kept for the next block.
		script := fmt.Sprintf("set -euo pipefail; set -a; [ ! -e '%[1]s' ] || . '%[1]s'\n%[2]s\nexport -p > '%[1]s'\n", p.state, text)
		if p.shell == "fish" {
			script = fmt.Sprintf(fishScript, p.state, text)
		}
		cmd = p.terminal.command(ctx, testkit.Tool(t, p.shell), "-c", script)
	case "python":
		cmd = p.terminal.command(ctx, testkit.Tool(t, "python3"), "-c", text)
	case "js":
		cmd = p.terminal.command(ctx, testkit.Tool(t, "node"), "--input-type=module", "-e", text)
	default:
		t.Fatalf("%s: blocks of %q do not run", b.name, b.language)
	}
	begin := len(p.printed(t, 0))
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, p.output, p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it leaves in the background ends with the page
	require.NoError(t, cmd.Start(), b.name)
	group := -cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(group, syscall.SIGKILL)
		cancel()
	})
	if b.until == "" {
		require.NoError(t, <-ended, "%s:\n%s\n%s", b.name, text, p.printed(t, begin))
	}
	want := p.replaced.Replace(b.prints + b.until)
	for n := 0; !strings.Contains(p.printed(t, begin), want); n++ {
		if b.until != "" {
			select {
			case err := <-ended:
				t.Fatalf("%s ended: %v\n%s", b.name, err, p.printed(t, begin))
			default:
			}
			p.bot.Emit(t, testkit.Event{Type: post, Data: json.RawMessage(`{"postId":"p1"}`)})
		}
		require.Less(t, n, 60, "%s did not print %q, but:\n%s", b.name, want, p.printed(t, begin))
		time.Sleep(500 * time.Millisecond) // before it looks again
	}
}
