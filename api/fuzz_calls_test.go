package api_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/mathub/webhooks/internal/testutil/fuzzing"
	"github.com/mathub/webhooks/internal/testutil/fuzzworld"
)

// fuzzCall is an operation of the document, with the document's examples as its first inputs.
type fuzzCall struct {
	name, method, path string
	operation          *openapi3.Operation
	params             map[string]string // the path's, by name
	query              url.Values
	bodies             []string
	names              []string // of parameters and of the body's fields
}

// fuzzInput is what a fuzz target gets. With seed 0 a request is as it says; else it is changed by a Mutator of the seed.
type fuzzInput struct {
	call, path, query, headers, body string
	seed                             uint64
}

type fuzzCalls struct {
	calls []*fuzzCall
	words []string
}

// callsOf are the operations under one of the prefixes, by name.
var allCalls = sync.OnceValues(func() (fuzzCalls, error) {
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return fuzzCalls{}, err
	}
	words := map[string]bool{}
	for _, example := range document.Components.Examples {
		gatherWords(example.Value.Value, words)
	}
	var all fuzzCalls
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			c := newFuzzCall(method, path, operation, item.Parameters)
			for _, body := range c.bodies {
				var tree any
				_ = json.Unmarshal([]byte(body), &tree)
				gatherWords(tree, words)
			}
			for _, values := range c.query {
				words[values[0]] = true
			}
			all.calls = append(all.calls, c)
		}
	}
	slices.SortFunc(all.calls, func(a, b *fuzzCall) int { return strings.Compare(a.name, b.name) })
	all.words = slices.Sorted(maps.Keys(words))
	return all, nil
})

func gatherWords(tree any, into map[string]bool) {
	switch v := tree.(type) {
	case string:
		into[v] = true
	case []any:
		for _, each := range v {
			gatherWords(each, into)
		}
	case map[string]any:
		for _, each := range v {
			gatherWords(each, into)
		}
	}
}

// inPaths are the path parameters that have no example: what the world's rows are called.
func inPaths(path, name string) string {
	switch {
	case name == "deliveryId":
		return fuzzworld.Delivery
	case name == "keyId" || name == "ownKeyId":
		return fuzzworld.OtherKey
	case name == "sessionId":
		return fuzzworld.Session
	case name == "class":
		return "dns"
	case name == "type":
		return "post.created"
	case strings.Contains(path, "/recoveries/{id}"):
		return fuzzworld.Incident
	case strings.Contains(path, "/internal/v1/bots/"):
		return fuzzworld.Bot
	case strings.Contains(path, "/internal/v1/events/"):
		return fuzzworld.Event
	default:
		return fuzzworld.Hook
	}
}

func newFuzzCall(method, path string, operation *openapi3.Operation, shared openapi3.Parameters) *fuzzCall {
	c := &fuzzCall{name: operation.OperationID, method: method, path: path, operation: operation, params: map[string]string{}, query: url.Values{}}
	for _, ref := range append(slices.Clone(shared), operation.Parameters...) {
		p := ref.Value
		switch p.In {
		case "path":
			c.params[p.Name] = inPaths(path, p.Name)
		case "query":
			c.names = append(c.names, p.Name)
			if p.Example != nil {
				c.query.Set(p.Name, fmt.Sprint(p.Example))
			}
		}
	}
	if operation.RequestBody == nil {
		return c
	}
	media := operation.RequestBody.Value.Content.Get("application/json")
	c.names = append(c.names, slices.Sorted(maps.Keys(media.Schema.Value.Properties))...)
	if media.Example != nil {
		raw, _ := json.Marshal(media.Example)
		c.bodies = append(c.bodies, string(raw))
	}
	for _, example := range media.Examples {
		raw, _ := json.Marshal(example.Value.Value)
		c.bodies = append(c.bodies, string(raw))
	}
	// One with every field that has an example, or a plain value of its type.
	whole := map[string]any{}
	for name, property := range media.Schema.Value.Properties {
		whole[name] = exampleOf(property.Value)
	}
	raw, _ := json.Marshal(whole)
	c.bodies = append(c.bodies, string(raw))
	return c
}

// exampleOf is the document's example of a schema, or a value that the schema allows.
func exampleOf(s *openapi3.Schema) any {
	switch {
	case s.Example != nil:
		return s.Example
	case len(s.Examples) > 0:
		return s.Examples[0]
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Type.Includes("array"):
		return []any{exampleOf(s.Items.Value)}
	case s.Type.Includes("boolean"):
		return true
	case s.Type.Includes("integer"), s.Type.Includes("number"):
		return 1
	case s.Type.Includes("object"):
		return map[string]any{}
	default:
		return "x"
	}
}

// seeds are the inputs that the document gives for a call.
func (c *fuzzCall) seeds() (inputs []fuzzInput) {
	for _, body := range append([]string{""}, c.bodies...) {
		inputs = append(inputs, fuzzInput{call: c.name, body: body})
		if len(c.query) > 0 {
			inputs = append(inputs, fuzzInput{call: c.name, body: body, query: c.query.Encode()})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.query)) {
		inputs = append(inputs, fuzzInput{call: c.name, query: url.Values{name: c.query[name]}.Encode()})
	}
	return inputs
}

// find returns the call of a name, or, as mutated names are no call's, any of them.
func (f fuzzCalls) find(name string) *fuzzCall {
	for _, c := range f.calls {
		if c.name == name {
			return c
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return f.calls[int(h.Sum32())%len(f.calls)]
}

// below are the calls whose path has one of the prefixes.
func (f fuzzCalls) below(prefixes ...string) fuzzCalls {
	has := func(c *fuzzCall) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(c.path, p) })
	}
	calls := slices.DeleteFunc(slices.Clone(f.calls), func(c *fuzzCall) bool { return !has(c) })
	return fuzzCalls{calls, f.words}
}

// numbered is the n-th input of the long form. The first are the document's own, for each call in turn, and then all are changed.
func (f fuzzCalls) numbered(n uint64) fuzzInput {
	c := f.calls[n%uint64(len(f.calls))]
	pass := n / uint64(len(f.calls))
	seeds := c.seeds()
	input := seeds[pass%uint64(len(seeds))]
	if pass >= uint64(len(seeds)) {
		input.seed = n
	}
	return input
}

// changed is the input with what its seed changes, and without the seed.
func (f fuzzCalls) changed(in fuzzInput) fuzzInput {
	if in.seed == 0 {
		return in
	}
	c := f.find(in.call)
	m := fuzzing.NewMutator(in.seed, c.names, f.words)
	in.seed = 0
	if len(c.query) > 0 && m.IntN(2) == 0 {
		values, _ := url.ParseQuery(in.query) // what of it is a query
		in.query = m.Values(values).Encode()
	}
	if in.body != "" && m.IntN(8) > 0 {
		in.body = m.JSON(in.body)
	}
	if in.path == "" && len(c.params) > 0 && m.IntN(6) == 0 {
		in.path = m.Text(slices.Sorted(maps.Values(c.params))[0])
	}
	if in.headers == "" && m.IntN(10) == 0 {
		in.headers = changedHeader(m)
	}
	return in
}

// request is the request of an input that has no seed. Its path takes the place of one of the path's parameters.
func (f fuzzCalls) request(at string, in fuzzInput) (*fuzzCall, *http.Request, error) {
	c := f.find(in.call)
	params := maps.Clone(c.params)
	if names := slices.Sorted(maps.Keys(params)); in.path != "" && len(names) > 0 {
		params[names[len(in.path)%len(names)]] = in.path
	}
	path := c.path
	for name, value := range params {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
	}
	u, err := url.Parse(at + path)
	if err != nil {
		return nil, nil, err
	}
	u.RawQuery = printable(in.query)
	req, err := http.NewRequest(c.method, u.String(), strings.NewReader(in.body))
	if err != nil {
		return nil, nil, err
	}
	if in.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	addHeaders(req, in.headers)
	return c, req, nil
}

// printable escapes what no request line can hold.
func printable(query string) string {
	var b strings.Builder
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || c == '#' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func changedHeader(m *fuzzing.Mutator) string {
	names := []string{"Content-Type", "Accept", "If-None-Match", "Content-Encoding", "X-Forwarded-For", "X-Forwarded-Prefix", "X-Mathub-Actor", "Origin", "Range", "traceparent", "Idempotency-Key", "Accept-Encoding"}
	return names[m.IntN(len(names))] + ": " + m.Text("application/json")
}

// addHeaders sets those of the lines that a client can send, but none that ends the connection or changes whose call it is.
func addHeaders(req *http.Request, lines string) {
	for line := range strings.SplitSeq(lines, "\n") {
		name, value, has := strings.Cut(line, ":")
		name = http.CanonicalHeaderKey(strings.TrimSpace(name))
		if !has || name == "" || slices.Contains([]string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "Trailer", "Authorization"}, name) {
			continue
		}
		token := func(c rune) bool { return c > ' ' && c < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?={}`, c) }
		if strings.ContainsFunc(name, func(c rune) bool { return !token(c) }) {
			continue
		}
		req.Header.Set(name, strings.Map(func(c rune) rune {
			if c < ' ' && c != '\t' || c == 0x7f {
				return -1
			}
			return c
		}, fmt.Sprintf("%.4000s", value)))
	}
}
