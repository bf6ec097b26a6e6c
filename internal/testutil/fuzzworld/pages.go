package fuzzworld

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/mathub/webhooks/internal/testutil/fuzzing"
)

// Action is a page or a form's action, with the values that the form has.
type Action struct {
	Method, Path string
	Values       url.Values // of the query, or of the form
}

func (a Action) name() string { return a.Method + " " + a.Path }

// Actions are what a page links to and the forms that it has, of its own site.
func Actions(page, at string) []Action {
	here, _ := url.Parse(at)
	r := reader{here: here}
	for tokens := html.NewTokenizer(strings.NewReader(page)); ; {
		switch tokens.Next() {
		case html.ErrorToken:
			return r.found
		case html.EndTagToken:
			if name, _ := tokens.TagName(); string(name) == "form" {
				r.form = false
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			r.start(tokens.Token())
		}
	}
}

// reader gathers the actions of a page. While it is in a form, that is the last one found.
type reader struct {
	here    *url.URL
	found   []Action
	form    bool
	selects string // the name of the select that it is in
}

func (r *reader) start(token html.Token) {
	attributes := map[string]string{}
	for _, a := range token.Attr {
		attributes[a.Key] = a.Val
	}
	switch token.Data {
	case "a":
		r.add(http.MethodGet, attributes["href"])
	case "form":
		r.form = r.add(strings.ToUpper(attributes["method"]), attributes["action"])
	case "select":
		r.selects = attributes["name"]
	case "option": // the first, unless another is selected
		_, selected := attributes["selected"]
		r.set(r.selects, attributes["value"], selected)
	case "input", "textarea", "button": // of those that a browser sends one of, the first
		r.set(attributes["name"], attributes["value"], false)
	}
}

func (r *reader) add(method, to string) bool {
	u, err := r.here.Parse(to)
	if err != nil || u.Host != r.here.Host {
		return false
	}
	if method == "" {
		method = http.MethodGet
	}
	r.found = append(r.found, Action{method, u.Path, u.Query()})
	return true
}

func (r *reader) set(name, value string, selected bool) {
	if !r.form || name == "" {
		return
	}
	if values := r.found[len(r.found)-1].Values; selected || !values.Has(name) {
		values.Set(name, value)
	}
}

// Crawl finds all pages and forms of a site whose paths begin with within, from its first page; get returns a page. What
// differs in values only is one action.
func Crawl(first, within string, get func(path string) string) []Action {
	todo, seen := []Action{{http.MethodGet, first, url.Values{}}}, map[string]bool{}
	var all []Action
	for len(todo) > 0 && len(all) < 400 {
		a := todo[0]
		todo = todo[1:]
		names := slices.Sorted(func(yield func(string) bool) {
			for name := range a.Values {
				if !yield(name) {
					return
				}
			}
		})
		known := a.Method + " " + a.Path + "?" + strings.Join(names, "&")
		if seen[known] || strings.Contains(a.Path, "/static/") || !strings.HasPrefix(a.Path, within) {
			continue
		}
		seen[known] = true
		all = append(all, a)
		if a.Method == http.MethodGet {
			todo = append(todo, Actions(get(a.Path+"?"+a.Values.Encode()), a.Path)...)
		}
	}
	return all
}

// Site are the pages and forms of a World, as one reader of them sees them.
type Site struct {
	*World
	URL     string
	Actions []Action
	// Sign adds what says who asks.
	Sign func(req *http.Request)
	// corpus keeps inputs; nil: none is kept.
	corpus *fuzzing.Corpus
}

// NewSite finds what can be reached from the first page.
func NewSite(t testing.TB, w *World, at, first string, sign func(req *http.Request)) *Site {
	t.Helper()
	s := &Site{World: w, URL: at, Sign: sign}
	s.Actions = Crawl(first, "/"+strings.Split(first, "/")[1], func(path string) string {
		s.Restore(t, false)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, http.NoBody)
		require.NoError(t, err)
		_, _, body := s.send(t, req)
		return body
	})
	return s
}

// Fuzz fuzzes all actions, from the values that the forms have.
func (s *Site) Fuzz(f *testing.F) {
	for i, a := range s.Actions {
		f.Add(a.name(), uint64(0), "", "")
		f.Add(a.name(), uint64(1+i), "", "")
	}
	f.Fuzz(func(t *testing.T, action string, seed uint64, path, values string) {
		s.run(t, s.find(action), seed, path, values)
	})
}

// numbered runs the n-th input of the long form.
func (s *Site) numbered(t testing.TB, n uint64) (status int) {
	t.Helper()
	all := uint64(len(s.Actions))
	seed := n / all // the first are as the forms are
	if seed > 0 {
		seed = n
	}
	return s.run(t, s.Actions[n%all], seed, "", "")
}

// Numbered is the long form of a fuzz target of pages, each world's from site: see fuzzing.Numbered. Inputs are kept for the target.
func Numbered(t *testing.T, target string, otherwise uint64, site func(testing.TB) *Site) {
	t.Helper()
	corpus := fuzzing.KeepCorpus(target)
	fuzzing.Numbered(t, otherwise, func(t *testing.T) func(n uint64) int {
		s := site(t)
		s.corpus = corpus
		return func(n uint64) int { return s.numbered(t, n) }
	})
}

// find returns the action of a name, or, as mutated names are no action's, any of them.
func (s *Site) find(name string) Action {
	for _, a := range s.Actions {
		if a.name() == name {
			return a
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return s.Actions[int(h.Sum32())%len(s.Actions)]
}

// run sends an action's request, changed. The answer must be no fault of ours and have no secret; a page, and an action that is
// refused, must have changed nothing.
func (s *Site) run(t testing.TB, of Action, seed uint64, path, given string) (status int) {
	t.Helper()
	a := s.changed(of, seed, path, given)
	defer func() { s.corpus.Offer(t, of.name(), uint64(0), path, a.Values.Encode()) }()
	for try := 0; ; try++ {
		s.Restore(t, false)
		req, err := s.request(t.Context(), a)
		if err != nil {
			return 0 // no client can send it
		}
		status, header, text := s.send(t, req)
		s.Changed = a.Method != http.MethodGet && (status < 400 || status >= 500)
		if status == http.StatusServiceUnavailable && header.Get("Retry-After") != "" && try < 20 {
			time.Sleep(200 * time.Millisecond) // the machine is busy
			continue
		}
		said := fmt.Sprintf("%s, seed %d, path %q, values %q: %s %s of %q: %d %.2000s", of.name(), seed, path, given, a.Method, req.URL, a.Values, status, text)
		require.Less(t, status, 500, "%s", said)
		for _, secret := range s.Secrets {
			require.NotContains(t, text, secret, "%s", said)
		}
		if !s.Changed {
			s.RequireUnchanged(t, said)
		}
		return status
	}
}

// changed is an action as an input has it: with other values, or with one part of its path changed.
func (s *Site) changed(a Action, seed uint64, path, given string) Action {
	values := url.Values{}
	for name, list := range a.Values {
		values[name] = slices.Clone(list)
	}
	if given != "" {
		values, _ = url.ParseQuery(given) // what of it is a query
	}
	if seed != 0 {
		m := fuzzing.NewMutator(seed, slices.Sorted(maps.Keys(a.Values)), fuzzing.Odd)
		values = m.Values(values)
		if path == "" && m.IntN(10) == 0 {
			path = m.Text(Hook)
		}
	}
	if path != "" {
		parts := strings.Split(a.Path, "/")
		parts[1+int(seed%uint64(len(parts)-1))] = url.PathEscape(path)
		a.Path = strings.Join(parts, "/")
	}
	a.Values = values
	return a
}

func (s *Site) request(ctx context.Context, a Action) (*http.Request, error) {
	target, body := s.URL+a.Path, ""
	if a.Method == http.MethodGet {
		target += "?" + a.Values.Encode()
	} else {
		body = a.Values.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, a.Method, target, strings.NewReader(body))
	if err == nil && a.Method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	return req, err
}

// noRedirects is a client that follows none.
var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (s *Site) send(t testing.TB, req *http.Request) (status int, header http.Header, body string) {
	t.Helper()
	s.Sign(req)
	resp, err := noRedirects.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, string(raw)
}
