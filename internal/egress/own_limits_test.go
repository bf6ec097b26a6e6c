//go:build unix

package egress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func init() {
	children["out of files"] = childOutOfFiles
	children["many"] = childMany
}

// runChild runs one of the children against a receiver, and returns what it prints.
func runChild(t *testing.T, name, url string, arguments ...string) string {
	t.Helper()
	var output bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+name, "CHILD_URL="+url, "CHILD_ARGUMENTS="+strings.Join(arguments, " "))
	child.Stdout, child.Stderr = &output, &output
	require.NoError(t, child.Run(), output.String())
	return output.String()
}

func setFileLimit(n uint64) {
	var limit syscall.Rlimit
	must(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	limit.Cur = n
	must(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
}

func childOutOfFiles() int {
	c := New(Options{Allow: loopback, AllowHTTP: true, MaxInFlight: 4})
	url := os.Getenv("CHILD_URL")
	first, err := c.Post(context.Background(), url, nil, []byte("{}"))
	fmt.Println("before:", first.Error, err)
	c.Close()
	var held []*os.File
	setFileLimit(40)
	for {
		f, err := os.Open("/dev/null")
		if err != nil {
			break
		}
		held = append(held, f)
	}
	r, err := c.Post(context.Background(), url, nil, []byte("{}"))
	fmt.Println("none left:", r.StatusCode, r.Error == "", r.StartedAt.IsZero(), errors.Is(err, syscall.EMFILE), err)
	_, err = c.Post(context.Background(), "http://name.example.com/", nil, []byte("{}"))
	fmt.Println("none left for DNS:", errors.Is(err, syscall.EMFILE), err)
	for _, f := range held {
		_ = f.Close()
	}
	r, err = c.Post(context.Background(), url, nil, []byte("{}"))
	fmt.Println("after:", r.Error, err)
	return 0
}

func TestOutOfFilesIsOurFault(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	require.Equal(t, strings.Join([]string{
		"before:  <nil>",
		"none left: 0 true true true egress: this machine is out of sockets or memory: too many open files",
		"none left for DNS: true egress: looking up a name: too many open files",
		"after:  <nil>", "",
	}, "\n"), runChild(t, "out of files", r.URL))
}

func childMany() int {
	setFileLimit(1024)
	deliveries, err := strconv.Atoi(os.Getenv("CHILD_ARGUMENTS"))
	must(err)
	c := New(Options{Allow: loopback, AllowHTTP: true})
	var group sync.WaitGroup
	var ok, ours, theirs atomic.Int32
	for i := range deliveries {
		// All at once, as to the webhooks of one event; to many hosts, so that connections cannot be shared.
		url := strings.Replace(os.Getenv("CHILD_URL"), "127.0.0.1", fmt.Sprintf("127.0.%d.%d", i%10, 1+i%250), 1)
		group.Go(func() {
			switch r, err := c.Post(context.Background(), url, nil, []byte("{}")); {
			case err != nil:
				ours.Add(1)
				fmt.Println(err)
			case !r.Success():
				theirs.Add(1)
				fmt.Println(r.Error)
			default:
				ok.Add(1)
			}
		})
	}
	group.Wait()
	fmt.Println(ok.Load(), ours.Load(), theirs.Load())
	return 0
}

func TestManyDeliveriesUnderALimitOf1024Files(t *testing.T) {
	t.Parallel()
	var open, most atomic.Int32
	r := listen(t, ":0", func(conn net.Conn) {
		n := open.Add(1)
		defer open.Add(-1)
		for {
			old := most.Load()
			if n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		in := bufio.NewReader(conn)
		for {
			if _, _, ok := readRequest(in); !ok {
				return
			}
			time.Sleep(2 * time.Millisecond) // a receiver that takes its time
			if _, err := io.WriteString(conn, okResponse); err != nil {
				return
			}
		}
	})
	require.Equal(t, "3000 0 0\n", runChild(t, "many", fmt.Sprintf("http://127.0.0.1:%d/", r.Port), "3000"))
	require.LessOrEqual(t, most.Load(), int32(512), "half of the files are left to others")
}
