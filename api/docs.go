package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"regexp"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/goccy/go-yaml"

	"github.com/mathub/webhooks/internal/web"
)

// The API reference is a page without scripts, made of openapi.yaml by this program: the renderers there are weigh a
// megabyte and more, and want styles and workers that a strict policy forbids.
var (
	//go:embed docs.tmpl.html
	docsTemplate string
	//go:embed docs.css
	docsStyle string
)

// docsPage is the API reference as it is served.
type docsPage struct {
	html, gzipped []byte
	policy        string // its Content-Security-Policy: the page's own style and nothing else
}

// Docs serves the API reference.
func (s *server) Docs(c *gin.Context) {
	c.Header("Content-Security-Policy", s.docs.policy)
	c.Header("Vary", "Accept-Encoding")
	page := s.docs.html
	if web.TakesGzip(c.GetHeader("Accept-Encoding")) {
		c.Header("Content-Encoding", "gzip")
		page = s.docs.gzipped
	}
	c.Data(http.StatusOK, "text/html; charset=utf-8", page)
}

func newDocsPage(document []byte) (*docsPage, error) {
	var root any
	if err := yaml.NewDecoder(bytes.NewReader(document), yaml.UseOrderedMap()).Decode(&root); err != nil {
		return nil, err
	}
	doc := node{root: root, value: root}
	t, err := template.New("docs").Funcs(template.FuncMap{"style": func() template.CSS { return template.CSS(docsStyle) }}).Parse(docsTemplate) //nolint:gosec // embedded
	if err != nil {
		return nil, err
	}
	var page, packed bytes.Buffer
	if err := t.Execute(&page, map[string]any{"Doc": doc, "Groups": doc.groups()}); err != nil {
		return nil, err
	}
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write(page.Bytes()) // a buffer takes everything
	_ = zip.Close()
	sum := sha256.Sum256([]byte(docsStyle))
	return &docsPage{
		html: page.Bytes(), gzipped: packed.Bytes(),
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}, nil
}

// node is a place in the document.
type node struct {
	root, value any
	Key         string // its name in the object that it is in
}

// At goes down by a name, and follows a $ref found there. What is not there is an empty node.
func (n node) At(name string) node {
	m, _ := n.value.(yaml.MapSlice)
	for _, item := range m {
		if fmt.Sprint(item.Key) == name {
			return node{n.root, item.Value, name}.resolved()
		}
	}
	return node{root: n.root}
}

func (n node) resolved() node {
	m, _ := n.value.(yaml.MapSlice)
	for _, item := range m {
		ref, isText := item.Value.(string)
		if item.Key != "$ref" || !isText {
			continue
		}
		to := node{root: n.root, value: n.root, Key: n.Key}
		for _, name := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
			to = to.At(name)
		}
		to.Key = n.Key
		return to
	}
	return n
}

// Each lists what is in an object or array, in the document's order.
func (n node) Each() (all []node) {
	switch v := n.value.(type) {
	case yaml.MapSlice:
		for _, item := range v {
			all = append(all, node{n.root, item.Value, fmt.Sprint(item.Key)}.resolved())
		}
	case []any:
		for _, item := range v {
			all = append(all, node{root: n.root, value: item}.resolved())
		}
	}
	return all
}

// Text is the node's scalar; empty where there is none.
func (n node) Text() string {
	switch v := n.value.(type) {
	case nil, yaml.MapSlice, []any:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// marks are what the descriptions use of Markdown.
var marks = []struct {
	pattern *regexp.Regexp
	html    string
}{
	{regexp.MustCompile("`([^`]+)`"), "<code>$1</code>"},
	{regexp.MustCompile(`\*\*([^*]+)\*\*`), "<strong>$1</strong>"},
	{regexp.MustCompile(`\*([^*]+)\*`), "<em>$1</em>"},
}

// Prose is the node's text as HTML.
func (n node) Prose() template.HTML {
	text := template.HTMLEscapeString(n.Text())
	for _, m := range marks {
		text = m.pattern.ReplaceAllString(text, m.html)
	}
	return template.HTML(text) //nolint:gosec // escaped above, and our own document
}

// Type says what a schema allows, in a few words.
func (n node) Type() string {
	var names []string
	for _, t := range n.At("type").Each() {
		names = append(names, t.Text())
	}
	for _, one := range n.At("oneOf").Each() {
		names = append(names, one.Type())
	}
	if t := n.At("type").Text(); t != "" {
		names = append(names, t)
	}
	text := strings.Join(names, " or ")
	if items := n.At("items"); items.value != nil {
		text = strings.Replace(text, "array", "array of "+items.Type(), 1)
	}
	if format := n.At("format").Text(); format != "" {
		text += ", " + format
	}
	return text
}

// Properties are those of an object's schema, or of what an array's or an alternative's is of.
func (n node) Properties() []node {
	for _, one := range append([]node{n, n.At("items")}, n.At("oneOf").Each()...) {
		if p := one.At("properties").Each(); len(p) > 0 {
			return p
		}
	}
	return nil
}

// Examples are a body's, each as indented JSON, or as it stands where it is a text.
func (n node) Examples() (all []string) {
	for _, e := range append([]node{n.At("example")}, n.At("examples").Each()...) {
		if inner := e.At("value"); inner.value != nil {
			e = inner
		}
		if e.value == nil {
			continue
		}
		if text, ok := e.value.(string); ok {
			all = append(all, text)
			continue
		}
		all = append(all, indented(e.value))
	}
	return all
}

func indented(v any) string {
	raw, err := yaml.MarshalWithOptions(v, yaml.JSON())
	if err != nil {
		panic(err) // what was decoded can be encoded
	}
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		panic(err)
	}
	return b.String()
}

// operation is one call, or one event that endpoints receive.
type operation struct {
	node
	Method, Path string
	Parameters   []node
	Curl         string // empty of events
}

// group is the operations of one tag.
type group struct {
	Tag        node
	Operations []operation
}

func (n node) groups() (groups []group) {
	for _, tag := range n.At("tags").Each() {
		g := group{Tag: tag}
		for _, section := range []string{"paths", "webhooks"} {
			for _, path := range n.At(section).Each() {
				for _, op := range path.Each() {
					if tags := op.At("tags").Each(); len(tags) == 0 || tags[0].Text() != tag.At("name").Text() {
						continue
					}
					o := operation{node: op, Method: strings.ToUpper(op.Key), Path: path.Key, Parameters: append(path.At("parameters").Each(), op.At("parameters").Each()...)}
					if section == "paths" {
						o.Curl = o.curl()
					}
					g.Operations = append(g.Operations, o)
				}
			}
		}
		groups = append(groups, g)
	}
	return groups
}

func (o operation) curl() string {
	line := "curl -X " + o.Method + ` "$API` + o.Path + `"`
	for _, needed := range o.At("security").Each() {
		if needed.At("botKey").value != nil {
			line += ` -H "Authorization: Bearer $KEY"`
		} else {
			line += ` -H "Authorization: Bearer $TOKEN"`
		}
	}
	for _, body := range o.At("requestBody").At("content").Each() {
		line += " -H 'Content-Type: " + body.Key + "'"
		for _, example := range body.Examples() {
			line += " \\\n  -d '" + example + "'"
		}
	}
	return line
}
