package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestGeneratedClients has other projects' generators make clients of the document that is served, compiles programs that
// use them, and runs these: with the product as it is, and as it may be later, with more fields everywhere and with values
// that the clients do not know.
func TestGeneratedClients(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	response, err := http.Get(stack.API().URL + "/openapi.json")
	require.NoError(t, err)
	document, err := io.ReadAll(response.Body)
	require.NoError(t, response.Body.Close())
	require.NoError(t, err)
	later := laterProduct(t, stack.API().URL)
	tm := openTerminal(t, stack, stack.API().CreateBot(t, "generated"))

	for name, generate := range map[string]func(t *testing.T, tm *terminal, document []byte) (program []string){
		"ogen":               goClient("ogen"),
		"oapi-codegen":       goClient("oapi-codegen"),
		"openapi-typescript": typescriptClient,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := generate(t, tm, document)
			for _, run := range []struct{ name, api, data, lastType string }{
				{"now", stack.API().URL, `{"postId":"p1"}`, "post.created"},
				{"later", later, `{"later":{"n":1},"postId":"p1"}`, "comment.created"},
			} {
				bot := stack.API().CreateBot(t, name+" "+run.name)
				receiver := testkit.NewReceiver(t)
				its := &terminal{env: append(tm.env[:len(tm.env):len(tm.env)], "MATHUB_API="+run.api, "MATHUB_BOT_KEY="+bot.Key,
					"RECEIVER="+receiver.URL("/hook"), "DATA="+run.data, "LAST_TYPE="+run.lastType)}
				its.output(t, program[0], program[1:]...)
				require.NotEmpty(t, receiver.Requests("/hook"), run.name)
			}
		})
	}
}

// goClient builds the program of that name in testdata/clients/go.
func goClient(name string) func(t *testing.T, tm *terminal, document []byte) []string {
	return func(t *testing.T, tm *terminal, document []byte) []string {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "clients", "go"))))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "openapi.json"), document, 0o600))
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name, "client"), 0o700))
		tm.output(t, "go", "-C", dir, "generate", "-run", " tool "+name+" ", ".")
		program := filepath.Join(dir, "program")
		// Without the folder's path, Go's cache knows a client that it has compiled before.
		tm.output(t, "go", "-C", dir, "build", "-trimpath", "-ldflags=-w", "-o", program, "./"+name)
		return []string{program}
	}
}

// typescriptClient compiles the program in testdata/clients/typescript.
func typescriptClient(t *testing.T, tm *terminal, document []byte) []string {
	dir, from := t.TempDir(), filepath.Join(testkit.Root(t), "standalone", "e2e", "testdata", "clients", "typescript")
	for _, file := range []string{"package.json", "tsconfig.json", "main.ts"} {
		raw, err := os.ReadFile(filepath.Join(from, file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), raw, 0o600))
	}
	require.NoError(t, os.Symlink(filepath.Join(from, "node_modules"), filepath.Join(dir, "node_modules")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "openapi.json"), document, 0o600))
	tools := filepath.Join(from, "node_modules", ".bin")
	tm.output(t, filepath.Join(tools, "openapi-typescript"), filepath.Join(dir, "openapi.json"), "-o", filepath.Join(dir, "schema.d.ts"))
	tm.output(t, filepath.Join(tools, "tsc"), "--project", dir)
	return []string{testkit.Tool(t, "node"), filepath.Join(dir, "built", "main.js")}
}

// laterProduct answers for the product at that URL as a later version of it may: see withMore.
func laterProduct(t *testing.T, at string) string {
	target, err := url.Parse(at)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(response *http.Response) error {
			raw, err := io.ReadAll(response.Body)
			if err != nil {
				return err
			}
			decoder := json.NewDecoder(bytes.NewReader(raw))
			decoder.UseNumber()
			var body any
			if decoder.Decode(&body) == nil {
				if raw, err = json.Marshal(withMore(body)); err != nil {
					return err
				}
			}
			response.Body = io.NopCloser(bytes.NewReader(raw))
			response.Header.Set("Content-Length", strconv.Itoa(len(raw)))
			response.ContentLength = int64(len(raw))
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}

// withMore gives each object a field that clients do not know, and lists of events and of event types one more, of a type
// that they do not know. What has a few values only gets another.
func withMore(body any) any {
	switch v := body.(type) {
	case map[string]any:
		for name, value := range v {
			switch name {
			case "trigger", "state", "disabledReason":
				v[name] = "later"
			case "events":
				v[name] = withMore(oneMore(value.([]any)))
			default:
				v[name] = withMore(value)
			}
		}
		v["later"] = map[string]any{"n": 1}
	case []any:
		for i := range v {
			v[i] = withMore(v[i])
		}
	}
	return body
}

// oneMore appends an event or an event type.
func oneMore(list []any) []any {
	if len(list) == 0 {
		return list
	}
	last, isEvent := list[len(list)-1].(map[string]any)
	if !isEvent {
		return append(list, "comment.created")
	}
	more := maps.Clone(last)
	more["id"], more["event"] = strings.Repeat("x", 200), "comment.created"
	return append(list, more)
}
