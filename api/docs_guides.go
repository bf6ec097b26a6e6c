package api

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"

	"github.com/mathub/webhooks/docs"
)

// sourceURL is where the files are that guides link to and that are not served.
const sourceURL = "https://github.com/mathub/webhooks/blob/main/"

// guidesOf are the parts of the index whose pages are served.
var guidesOf = []string{"For bot developers", "For Mathub's backend"}

// guide is a page for those who use the API.
type guide struct {
	Name   string // docs/<name>.md is served as /docs/<name>
	Title  string
	text   template.HTML
	images []string
}

var (
	markdown = goldmark.New(goldmark.WithExtensions(extension.Table), goldmark.WithParserOptions(parser.WithAutoHeadingID()))
	// indexed is a page's line in docs/README.md.
	indexed = regexp.MustCompile(`(?m)^- \[[^\]]+\]\(([a-z-]+)\.md\)`)
)

// newGuides renders the pages that the index of pages lists for the API's users, in its order.
func newGuides(pages fs.FS) ([]guide, error) {
	index, err := fs.ReadFile(pages, "README.md")
	if err != nil {
		return nil, err
	}
	var names []string
	served := map[string]bool{}
	for _, part := range guidesOf {
		_, after, found := strings.Cut(string(index), "\n## "+part+"\n")
		if !found {
			return nil, fmt.Errorf("docs/README.md has no part %q", part)
		}
		part, _, _ = strings.Cut(after, "\n## ")
		for _, m := range indexed.FindAllStringSubmatch(part, -1) {
			if !served[m[1]] {
				served[m[1]] = true
				names = append(names, m[1])
			}
		}
	}
	guides := make([]guide, len(names))
	for i, name := range names {
		source, err := fs.ReadFile(pages, name+".md")
		if err != nil {
			return nil, err
		}
		if guides[i], err = newGuide(name, source, served); err != nil {
			return nil, fmt.Errorf("docs/%s.md: %w", name, err)
		}
	}
	return guides, nil
}

func newGuide(name string, source []byte, served map[string]bool) (guide, error) {
	g := guide{Name: name}
	page := markdown.Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(anchors{}))))
	var comments []ast.Node
	err := ast.Walk(page, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.HTMLBlock:
			comments = append(comments, n) // marks of the tests; the pages have no other HTML
		case *ast.Heading:
			if n.Level == 1 && g.Title == "" {
				g.Title = plainText(n, source)
			}
		case *ast.Link:
			n.Destination = []byte(guideLink(string(n.Destination), served))
		case *ast.Image:
			g.images = append(g.images, string(n.Destination))
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return g, err
	}
	for _, comment := range comments {
		comment.Parent().RemoveChild(comment.Parent(), comment)
	}
	var b bytes.Buffer
	err = markdown.Renderer().Render(&b, source, page)
	focusable := strings.ReplaceAll(b.String(), "<pre>", `<pre tabindex="0">`) // so that keys scroll a wide one
	g.text = template.HTML(focusable)                                          //nolint:gosec // our own pages, and goldmark leaves raw HTML out
	return g, err
}

// guideLink is where a link of docs/*.md leads from the page as it is served: to a guide, or to the source.
func guideLink(to string, served map[string]bool) string {
	link, err := url.Parse(to)
	if err != nil || link.Scheme != "" || link.Path == "" {
		return to
	}
	if name := strings.TrimSuffix(link.Path, ".md"); served[name] {
		link.Path = name
		return link.String()
	}
	return sourceURL + strings.TrimPrefix(path.Join("docs", link.Path), "/") + fragment(link)
}

func fragment(link *url.URL) string {
	if link.Fragment == "" {
		return ""
	}
	return "#" + link.EscapedFragment()
}

func plainText(n ast.Node, source []byte) string {
	var b strings.Builder
	for child := n.FirstChild(); child != nil; child = child.NextSibling() {
		if leaf, ok := child.(*ast.Text); ok {
			b.Write(leaf.Value(source))
		} else {
			b.WriteString(plainText(child, source))
		}
	}
	return b.String()
}

// anchors give headings the ids that the pages' links hold to.
type anchors struct{}

func (anchors) Generate(value []byte, _ ast.NodeKind) []byte {
	return []byte(docs.Anchor(string(value)))
}

func (anchors) Put([]byte) {}

// prose is a text of the contract as HTML; one that is a single paragraph stands without its tags.
func prose(source string) template.HTML {
	var b bytes.Buffer
	if err := markdown.Convert([]byte(source), &b); err != nil {
		panic(err) // a buffer takes everything
	}
	html := strings.TrimSpace(b.String())
	if inner, one := strings.CutPrefix(html, "<p>"); one && strings.Count(html, "<p>") == 1 && strings.HasSuffix(inner, "</p>") {
		html = strings.TrimSuffix(inner, "</p>")
	}
	return template.HTML(html) //nolint:gosec // our own document, and goldmark leaves raw HTML out
}
