package portal

import (
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"

	"github.com/mathub/webhooks/internal/web"
)

//go:embed static
var staticFiles embed.FS

// assets are the static files by name.
type assets map[string]asset

type asset struct {
	hash, contentType string
	plain, gzipped    []byte
}

// hashLength of SHA-256's digits tell versions of a file apart.
const hashLength = 16

func newAssets() (assets, error) {
	files := assets{}
	err := fs.WalkDir(staticFiles, "static", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := staticFiles.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		files[path.Base(name)] = asset{hex.EncodeToString(sum[:])[:hashLength], mime.TypeByExtension(path.Ext(name)), content, web.Gzip(content, gzip.BestCompression)}
		return nil
	})
	return files, err
}

// path is where a file is served, below the portal.
func (a assets) path(name string) string { return "/static/" + a[name].hash + "/" + name }

// static serves a file, for ever where its address says its content. Another version's page, as during an upgrade, gets
// this version's file.
func (p *portal) static(w http.ResponseWriter, r *http.Request, _ *session) error {
	file, found := p.assets[r.PathValue("name")]
	if !found {
		return errNoPage
	}
	header := w.Header()
	if r.PathValue("hash") == file.hash {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	header.Set("Content-Type", file.contentType)
	header.Set("Vary", "Accept-Encoding")
	content := file.plain
	if web.TakesGzip(r.Header.Get("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		content = file.gzipped
	}
	_, _ = w.Write(content) // its reader may be gone
	return nil
}
