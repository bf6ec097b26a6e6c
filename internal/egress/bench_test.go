package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/webhook"
)

// serveLean answers requests with as little work as it takes, so that the benchmark measures the client.
func serveLean(conn net.Conn) {
	in := bufio.NewReader(conn)
	answer := []byte(okResponse)
	body := 0
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case err != nil:
			return
		case strings.HasPrefix(string(line), "Content-Length: "):
			for _, digit := range line[len("Content-Length: ") : len(line)-2] {
				body = body*10 + int(digit-'0')
			}
		case len(line) == 2:
			if _, err := in.Discard(body); err != nil {
				return
			}
			body = 0
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}
}

// BenchmarkPost makes deliveries of 512 bytes over kept-alive connections. The receiver runs in the same process, so
// half of what is counted is its.
func BenchmarkPost(b *testing.B) {
	body := make([]byte, 512)
	header := webhook.Headers(webhook.Delivery{ID: uuid.New(), EventID: "e", Type: webhook.PostCreated, Body: body, Secrets: []string{"s"}})
	a := newAuthority(b)
	config := &tls.Config{Certificates: []tls.Certificate{a.issue(b, nil)}}
	run := func(b *testing.B, url string) {
		c := newClient(b, Options{RootCAs: a.pool()})
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if r, err := c.Post(context.Background(), url, header, body); err != nil || !r.Success() {
					b.Error(r.Error, err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
	}
	b.Run("http", func(b *testing.B) { run(b, listen(b, "127.0.0.1:0", serveLean).URL) })
	b.Run("https", func(b *testing.B) {
		run(b, listenTLS(b, config, func(conn *tls.Conn) { serveLean(conn) }).URL)
	})
	b.Run("one after another", func(b *testing.B) {
		r := listen(b, "127.0.0.1:0", serveLean)
		c := newClient(b, Options{})
		b.ReportAllocs()
		for b.Loop() {
			if r, err := c.Post(context.Background(), r.URL, header, body); err != nil || !r.Success() {
				b.Error(r.Error, err)
			}
		}
	})
}
