package e2e_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// npmPackage is the TypeScript package as npm installs it, in a folder of its own.
type npmPackage struct {
	dir    string // the fresh folder
	source string // where the package's source is
	tm     *terminal
}

// commonJS verifies in one form of the package what it has signed in the other.
const commonJS = `
const required = require("@mathub/webhooks");
import("@mathub/webhooks").then(async (imported) => {
	const names = (exports) => Object.keys(exports).filter((name) => name !== "default" && name !== "module.exports").sort().join();
	if (required === imported || names(required) !== names(imported)) throw new Error(names(required) + " are not " + names(imported));
	const body = '{"event":"test","data":{}}';
	await required.verify(body, await imported.sign(body, "s"), "s");
});`

// TestTypeScriptPackage packs the package, installs it in a fresh folder, and runs what its page shows as it stands there.
func TestTypeScriptPackage(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	bot := stack.API().CreateBot(t, "typescript")
	p := installPackage(t, stack, bot)
	t.Run("it brings nothing with it", p.bringsNothing)
	t.Run("its own tests", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(p.source, "test", "*.test.mjs"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		p.node(t, append([]string{"--test"}, files...)...)
	})
	t.Run("its types", func(t *testing.T) { p.tsc(t, "--project", filepath.Join(p.source, "test")) })
	t.Run("CommonJS", func(t *testing.T) {
		program := filepath.Join(p.dir, "program.cjs")
		require.NoError(t, os.WriteFile(program, []byte(commonJS), 0o600))
		p.node(t, program)
	})
	for runtime, command := range map[string][]string{
		"Node": {testkit.Tool(t, "node")},
		"Deno": {runtimeOf(t, "deno"), "run", "--allow-env", "--allow-read", "--node-modules-dir=manual", "--no-remote"},
		"Bun":  {runtimeOf(t, "bun")},
	} {
		t.Run("on "+runtime, func(t *testing.T) {
			source, err := os.ReadFile(filepath.Join("testdata", "runtimes", "verify.mjs"))
			require.NoError(t, err)
			program := filepath.Join(p.dir, "verify-"+runtime+".mjs")
			require.NoError(t, os.WriteFile(program, source, 0o600))
			require.Equal(t, "verified", p.tm.output(t, command[0], append(command[1:], program)...))
		})
	}
	t.Run("on the real service", func(t *testing.T) { p.node(t, filepath.Join(p.source, "test", "service.mjs")) })
	for _, other := range []string{"@types", "@temporalio", "express", "fastify", "pg"} { // what page and examples ask to install beside it
		require.NoError(t, os.Symlink(filepath.Join(p.source, "node_modules", other), filepath.Join(p.dir, "node_modules", other)))
	}
	p.examples(t, stack)
	p.page(t, stack, bot)
}

// examples runs the examples that use the package.
func (p *npmPackage) examples(t *testing.T, stack *testkit.Stack) {
	t.Helper()
	require.NoError(t, os.CopyFS(p.dir, os.DirFS(example(t, "npm"))))
	node := testkit.Tool(t, "node")
	for file, run := range map[string]func(t *testing.T, program string){
		"receiver.mjs": func(t *testing.T, program string) {
			exampleReceives(t, stack, p.tm, []string{node, program})
			exampleNamesATakenPort(t, p.tm, []string{node, program})
		},
		"emit.mjs":          func(t *testing.T, program string) { exampleEmits(t, stack, p.tm, node, program) },
		"emit-batch.mjs":    func(t *testing.T, program string) { exampleEmitsSeveral(t, stack, p.tm, node, program) },
		"emit-workflow.mjs": func(t *testing.T, program string) { exampleEmits(t, stack, p.tm, node, program) },
		"outbox.mjs":        func(t *testing.T, program string) { p.stores(t, stack, program) },
		"poll.mjs":          func(t *testing.T, program string) { p.polls(t, stack, program) },
	} {
		t.Run(file, func(t *testing.T) { run(t, filepath.Join(p.dir, file)) })
	}
}

// polls runs a program that polls, until it has read an event, and again: it goes on where it was.
func (p *npmPackage) polls(t *testing.T, stack *testkit.Stack, program string) {
	bot, cursor := stack.API().CreateBot(t, "polling"), filepath.Join(t.TempDir(), "cursor")
	polling := &terminal{env: append(p.tm.env, "MATHUB_BOT_KEY="+bot.Key, "CURSOR_FILE="+cursor)}
	stdout, _, stop := polling.start(t, testkit.Tool(t, "node"), program)
	require.Eventually(t, func() bool { return fileSize(cursor) > 0 }, 3*time.Minute, 20*time.Millisecond, "it keeps where it begins")
	first := bot.Emit(t, testkit.Event{Type: post, Data: []byte(`{"postId":"p1"}`)})
	stdout.await(t, first.ID)
	stop()
	away := bot.Emit(t, testkit.Event{Type: post, Data: []byte(`{"postId":"p2"}`)})
	stdout, _, stop = polling.start(t, testkit.Tool(t, "node"), program)
	defer stop()
	stdout.await(t, away.ID)
}

// stores runs a program that writes an event in a transaction of its own database, and the relay. A transaction that is rolled back emits nothing.
func (p *npmPackage) stores(t *testing.T, stack *testkit.Stack, program string) {
	_, err := stack.Database(t).Exec(t.Context(), "CREATE DATABASE backend")
	require.NoError(t, err)
	tm := &terminal{env: append(p.tm.env, "MATHUB_OUTBOX_URL="+stack.Servers.DatabaseURL("backend"), "POST_ID=stored")}
	backend, err := pgx.Connect(t.Context(), stack.Servers.DatabaseURL("backend"))
	require.NoError(t, err)
	defer backend.Close(context.Background()) //nolint:errcheck // the test is over
	_, err = backend.Exec(t.Context(), stack.Run(t, "relay", "--print-schema")+"\n; CREATE TABLE posts (id text PRIMARY KEY, body text NOT NULL)")
	require.NoError(t, err)
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "subscribed")
	bot.CreateWebhook(t, receiver.URL("/hook"), "", post)

	node := testkit.Tool(t, "node")
	require.Equal(t, "stored stored", tm.output(t, node, program))
	again, err := tm.command(t.Context(), node, program).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(again), "duplicate key", "the post is there already")
	var rows int
	require.NoError(t, backend.QueryRow(t.Context(), "SELECT count(*) FROM mathub_outbox").Scan(&rows))
	require.Equal(t, 1, rows, "what is rolled back leaves no event")
	tm.output(t, "mathub-webhooks", "relay", "--once")
	got := receiver.Await(t, "/hook", 1)[0]
	require.Equal(t, "post-created-stored", got.EventID())
	require.Contains(t, string(got.Body), `"body":"The bound in (3) can be improved."`)
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// installPackage does what npm publish and npm install do.
func installPackage(t *testing.T, stack *testkit.Stack, bot *testkit.Bot) *npmPackage {
	t.Helper()
	p := &npmPackage{dir: t.TempDir(), source: filepath.Join(testkit.Root(t), "clients", "typescript"), tm: openTerminal(t, stack, bot)}
	p.tm.env = append(p.tm.env, "TEMPORAL_ADDRESS="+stack.TemporalAddr(), "MATHUB_SECRET="+examplesSecret)
	npm := testkit.Tool(t, "npm")
	p.tm.output(t, npm, "--prefix", p.source, "pack", p.source, "--pack-destination", p.dir, "--loglevel=error")
	archives, err := filepath.Glob(filepath.Join(p.dir, "*.tgz"))
	require.NoError(t, err)
	require.Len(t, archives, 1)
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "package.json"), []byte(`{"type":"module"}`), 0o600))
	p.tm.output(t, npm, "--prefix", p.dir, "install", "--offline", "--no-audit", "--no-fund", "--loglevel=error", archives[0])
	return p
}

// runtimeOf is a program that make test-deps has installed for these tests.
func runtimeOf(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "runtimes", "node_modules", ".bin", name))
	require.NoError(t, err)
	require.FileExists(t, path, "run make test-deps")
	return path
}

var imports = regexp.MustCompile(`(?m)^(?:import|export)\b.* from "([^"]+)"`)

// bringsNothing: no other package, and no module of Node.
func (p *npmPackage) bringsNothing(t *testing.T) {
	installed, err := filepath.Glob(filepath.Join(p.dir, "node_modules", "[^.]*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(p.dir, "node_modules", "@mathub")}, installed)
	root := filepath.Join(p.dir, "node_modules", "@mathub", "webhooks")
	for _, file := range []string{"README.md", "LICENSE", "dist/esm/index.d.ts", "dist/cjs/index.d.ts"} {
		require.FileExists(t, filepath.Join(root, file))
	}
	require.NoDirExists(t, filepath.Join(root, "src"))
	modules, err := filepath.Glob(filepath.Join(root, "dist", "esm", "*.js"))
	require.NoError(t, err)
	seen := 0
	for _, module := range modules {
		source, err := os.ReadFile(module)
		require.NoError(t, err)
		for _, found := range imports.FindAllStringSubmatch(string(source), -1) {
			seen++
			require.True(t, strings.HasPrefix(found[1], "./"), "%s imports %s", module, found[1])
		}
	}
	require.Greater(t, seen, 10)
}

func (p *npmPackage) node(t *testing.T, args ...string) string {
	t.Helper()
	return p.tm.output(t, testkit.Tool(t, "node"), args...)
}

func (p *npmPackage) tsc(t *testing.T, args ...string) {
	t.Helper()
	p.tm.output(t, filepath.Join(p.source, "node_modules", ".bin", "tsc"), args...)
}

// page compiles the blocks of the package's page, strictly, and runs each of them.
func (p *npmPackage) page(t *testing.T, stack *testkit.Stack, bot *testkit.Bot) {
	t.Helper()
	found := blocks(t, "clients/typescript/README.md")
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "tsconfig.json"), []byte(`{"compilerOptions":
		{"strict": true, "target": "es2022", "module": "nodenext", "skipLibCheck": true, "types": ["node"]}, "include": ["*.mts"]}`), 0o600))
	ports := map[string]int{}
	for _, b := range found {
		if b.name == "main" {
			require.LessOrEqual(t, strings.Count(b.text, "\n"), 20, "a backend that emits and a bot that receives are twenty lines")
		}
		port, err := freeport.Find()
		require.NoError(t, err)
		ports[b.name] = port
		text := strings.NewReplacer("9000", strconv.Itoa(port), "bot-lemma", bot.ID).Replace(b.text)
		file := filepath.Join(p.dir, strings.TrimSuffix(b.name, ", receives")+".mts")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	p.tsc(t, "--project", p.dir)
	for _, b := range found {
		name, receives := strings.CutSuffix(b.name, ", receives")
		program := filepath.Join(p.dir, name+".mjs")
		t.Run("README "+name, func(t *testing.T) {
			if receives {
				p.receives(t, stack, program, ports[b.name])
				return
			}
			pagePrints(t, bot, p.tm, b, testkit.Tool(t, "node"), program)
		})
	}
}

// pagePrints runs a program of a package's page until it has printed what its block says.
func pagePrints(t *testing.T, bot *testkit.Bot, tm *terminal, b block, command ...string) {
	t.Helper()
	stdout, stderr, stop := tm.start(t, command[0], command[1:]...)
	defer stop()
	for began := time.Now(); !strings.Contains(stdout.String(), b.prints+b.until); {
		require.Less(t, time.Since(began), time.Minute, "%s\n%s", stdout.String(), stderr.String())
		if b.until != "" {
			bot.Emit(t, testkit.Event{Type: post, Data: []byte(`{"postId":"p1"}`)})
		}
		time.Sleep(100 * time.Millisecond) // before it looks again
	}
}

// receives runs a program that receives, or that exports a handler of the Fetch API.
func (p *npmPackage) receives(t *testing.T, stack *testkit.Stack, program string, port int) {
	command := []string{testkit.Tool(t, "node"), program}
	if source, err := os.ReadFile(program); err == nil && strings.Contains(string(source), "export default") {
		command = []string{command[0], filepath.Join(p.source, "test", "serve.mjs"), program, strconv.Itoa(port)}
	}
	pageReceives(t, stack, p.tm, port, command...)
}

// pageReceives sees real deliveries taken by a program of a package's page, a verification answered, and forged and replayed requests
// refused.
func pageReceives(t *testing.T, stack *testkit.Stack, tm *terminal, port int, command ...string) {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	stdout, stderr, stop := tm.start(t, command[0], command[1:]...)
	defer stop()
	require.Eventually(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		return err == nil && conn.Close() == nil
	}, 3*time.Minute, 20*time.Millisecond, "it does not listen: %s", stderr)
	url := "http://" + addr + "/mathub"
	bot, listening := stack.API().CreateBot(t, "receiving"), testkit.NewReceiver(t)
	hook := bot.CreateWebhook(t, url, examplesSecret, post)
	bot.CreateWebhook(t, listening.URL("/"), examplesSecret, post) // what is sent, as someone who listens in has it
	sent := bot.Emit(t, testkit.Event{Type: post, Data: []byte(`{"body":"größer ≥ \u003c"}`)})
	delivery := bot.AwaitDeliveries(t, hook.ID, 1)[0]
	require.True(t, delivery.Success, "%+v", delivery)
	stdout.await(t, sent.ID)
	asked := bot.Verify(t, hook.ID)
	require.True(t, asked.Success, "it answers with the nonce: %+v", asked)
	refusesForgeries(t, url, listening.Await(t, "/", 1)[0])
	require.NotContains(t, stdout.String(), "forged")
}
