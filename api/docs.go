package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/docs"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
)

// The reference and the guides are pages without scripts, made by this program, of openapi.yaml and docs/*.md:
// the renderers there are weigh a megabyte and more, and want styles and workers that a strict policy forbids.
var (
	//go:embed docs.tmpl.html
	docsTemplate string
	//go:embed docs.css
	docsStyle string
)

// docsPolicy lets nothing into the pages but their own style and images.
const docsPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// docsFiles are the reference and what it leads to, by their path below /docs; the reference's is empty.
type docsFiles map[string]docsFile

type docsFile struct {
	kind           string
	plain, gzipped []byte
	cached         bool // for good: its name changes with its content
}

// madeDocs makes the documentation when it is first asked for, as that takes a tenth of a second.
var madeDocs = sync.OnceValues(func() (docsFiles, error) { return newDocs(openAPI) })

// Docs serves the API reference.
func (s *server) Docs(c *gin.Context) { s.sendDocs(c, "") }

// guides serves what stands below the reference.
func (s *server) guides(c *gin.Context) {
	name := strings.TrimPrefix(c.Param("file"), "/")
	if name == "" {
		c.Redirect(http.StatusMovedPermanently, s.prefix(c)+"/docs")
		return
	}
	s.sendDocs(c, name)
}

func (s *server) sendDocs(c *gin.Context, name string) {
	files, err := madeDocs()
	if err != nil {
		fail(c, s.log, fmt.Errorf("make the documentation: %w", err))
		return
	}
	file, found := files[name]
	if !found {
		fail(c, s.log, problem.ErrNotFound)
		return
	}
	c.Header("Content-Security-Policy", docsPolicy)
	c.Header("Vary", "Accept-Encoding")
	if file.cached {
		c.Header("Cache-Control", "public, max-age=31536000, immutable")
	}
	content := file.plain
	if web.TakesGzip(c.GetHeader("Accept-Encoding")) {
		c.Header("Content-Encoding", "gzip")
		content = file.gzipped
	}
	c.Data(http.StatusOK, file.kind, content)
}

// docsPage is what the template makes a page of.
type docsPage struct {
	Title     string
	Root      string // the way to what stands at the server's root, relative, so that a proxy may put a prefix before it
	Docs      string // the way to what stands below /docs
	Style     string // the style sheet's name
	Guides    []guide
	Here      string // the guide that this is; empty: the reference
	Reference *reference
	Text      template.HTML // of a guide
}

func newDocs(document []byte) (docsFiles, error) {
	reference, err := newReference(document)
	if err != nil {
		return nil, err
	}
	guides, err := newGuides(docs.Pages)
	if err != nil {
		return nil, err
	}
	t, err := template.New("docs").Parse(docsTemplate)
	if err != nil {
		return nil, err
	}
	style := pages.StyleSheet() + docsStyle
	sum := sha256.Sum256([]byte(style))
	styleName := "look-" + base64.RawURLEncoding.EncodeToString(sum[:9]) + ".css"
	files := docsFiles{styleName: newDocsFile("text/css; charset=utf-8", []byte(style), true)}
	add := func(name string, page docsPage) error {
		page.Style, page.Guides, page.Here = styleName, guides, name
		var b bytes.Buffer
		if err := t.Execute(&b, page); err != nil {
			return fmt.Errorf("/docs/%s: %w", name, err)
		}
		files[name] = newDocsFile("text/html; charset=utf-8", b.Bytes(), false)
		return nil
	}
	if err := add("", docsPage{Title: "API reference", Docs: "docs/", Reference: reference}); err != nil {
		return nil, err
	}
	for _, g := range guides {
		if err := add(g.Name, docsPage{Title: g.Title, Root: "../", Text: g.text}); err != nil {
			return nil, err
		}
		for _, image := range g.images {
			content, err := docs.Pages.ReadFile(image)
			if err != nil {
				return nil, fmt.Errorf("an image of %s: %w", g.Name, err)
			}
			files[image] = newDocsFile(mime.TypeByExtension(path.Ext(image)), content, false)
		}
	}
	return files, nil
}

func newDocsFile(kind string, content []byte, cached bool) docsFile {
	return docsFile{kind: kind, plain: content, gzipped: web.Gzip(content, gzip.DefaultCompression), cached: cached}
}
