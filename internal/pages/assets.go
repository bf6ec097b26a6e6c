package pages

import (
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"sync"

	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
)

//go:embed static
var staticFiles embed.FS

// ErrNoPage is for an address that leads nowhere.
var ErrNoPage = &problem.Error{Kind: problem.NotFound, Detail: "There is no such page."}

type asset struct {
	hash, contentType string
	plain, gzipped    []byte
}

// hashLength of SHA-256's digits tell versions of a file apart.
const hashLength = 16

// assets are the static files by name, made once in a process.
var assets = sync.OnceValue(func() map[string]asset {
	files := map[string]asset{}
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
	if err != nil {
		panic(err) // they are embedded
	}
	return files
})

// AssetPath is where a static file is served, below the base of the pages.
func AssetPath(name string) string { return "/static/" + assets()[name].hash + "/" + name }

// ServeAsset serves the static file of the path's {hash} and {name}, for ever where its address says its content. Another
// version's page, as during an upgrade, gets this version's file.
func ServeAsset(w http.ResponseWriter, r *http.Request) error {
	file, found := assets()[r.PathValue("name")]
	if !found {
		return ErrNoPage
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
