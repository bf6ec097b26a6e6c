//go:build unix

package listen_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/listen"
)

// heldVariable makes this program a server of its own with a limit of 1,024 open files: of them, others hold so many.
const heldVariable = "MATHUB_LISTEN_TEST_HELD"

func TestMain(m *testing.M) {
	if held := os.Getenv(heldVariable); held != "" {
		if err := serveWithFewFiles(held); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// A listener then holds fewer, and less fills it.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 2048, Max: 2048}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func serveWithFewFiles(held string) error {
	n, err := strconv.Atoi(held)
	if err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1024, Max: 1024}); err != nil {
		return err
	}
	files := make([]*os.File, n)
	for i := range files {
		if files[i], err = os.Open(os.DevNull); err != nil {
			return err
		}
		defer func() { _ = files[i].Close() }()
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test has ended
		stop()
	}()
	server := listen.Server{Name: "test", Variable: "X", Addr: "127.0.0.1:0", Handler: handler()}
	return listen.Run(ctx, slog.New(slog.NewTextHandler(os.Stdout, nil)), server, server)
}

// TestNobodyIsKeptOutWithFewFiles: the connections of a stranger never take all that a process may have open, and give way
// where something else does.
func TestNobodyIsKeptOutWithFewFiles(t *testing.T) {
	for name, held := range map[string]string{"a low limit": "0", "others hold the files": "950"} {
		t.Run(name, func(t *testing.T) {
			child := exec.CommandContext(t.Context(), os.Args[0])
			child.Env = append(os.Environ(), heldVariable+"="+held)
			stdin, err := child.StdinPipe()
			require.NoError(t, err)
			output, err := child.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, child.Start())
			lines := bufio.NewReader(output)
			addrs := make([]string, 2)
			for i := range addrs {
				line, err := lines.ReadString('\n')
				require.NoError(t, err)
				_, addr, found := strings.Cut(strings.TrimSpace(line), "addr=")
				require.True(t, found, line)
				addrs[i] = addr
			}
			logged := make(chan string, 1)
			go func() {
				all, _ := io.ReadAll(lines)
				logged <- string(all)
			}()
			for _, addr := range addrs {
				for range 600 {
					_, err := io.WriteString(dial(t, "127.0.0.3", addr), "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
					require.NoError(t, err)
				}
			}
			for _, addr := range addrs {
				for _, from := range []string{"127.0.0.1", "127.0.0.3"} {
					require.Less(t, get(t, from, addr), 4*time.Second, from)
				}
			}
			require.NoError(t, stdin.Close())
			log := <-logged
			require.NoError(t, child.Wait(), log)
			if held == "0" {
				require.NotContains(t, log, "too many open files")
			}
		})
	}
}
