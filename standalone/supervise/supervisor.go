package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	// firstBackoff is the wait before a child is started again; it doubles up to longestBackoff.
	firstBackoff   = 500 * time.Millisecond
	longestBackoff = 5 * time.Second
	// settled is how long a child must have run for its next end to be an event of its own.
	settled = 10 * time.Second
)

// Supervisor keeps one child running: when it ends, it is started again.
type Supervisor struct {
	Name string
	// Command creates the child for each start.
	Command func() (*exec.Cmd, error)
	Options Options
	// Ready returns nil when the child works; it must give up when ended is closed or ctx ends.
	Ready func(ctx context.Context, ended <-chan struct{}) error
	// Watch, if not nil, watches the child while it should work: it returns, with a reason, when the child has to be
	// killed and started again, or with none when ctx ends.
	Watch func(ctx context.Context) (reason string)
	// StopSignal asks the child to stop; after Grace it is killed.
	StopSignal syscall.Signal
	Grace      time.Duration
	// Say tells people that the child ended and that it is back.
	Say func(string)

	mu      sync.Mutex
	process *Process
	reason  string // why the child was killed by Restart

	stopping context.Context
	stop     context.CancelFunc
	kept     chan struct{}
}

// Start starts the child, waits until it works and keeps it running from then on. After an error nothing runs.
func (k *Supervisor) Start(ctx context.Context) error {
	k.stopping, k.stop = context.WithCancel(context.Background())
	k.kept = make(chan struct{})
	if err := k.start(ctx); err != nil {
		close(k.kept)
		if p := k.Process(); p != nil {
			p.Kill()
		}
		return err
	}
	go k.keep()
	return nil
}

// Process is the child that runs now, or ran last; nil before the first start.
func (k *Supervisor) Process() *Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.process
}

// Restart kills the child at once. It is started again, and the reason is printed.
func (k *Supervisor) Restart(reason string) {
	k.mu.Lock()
	k.reason = reason
	p := k.process
	k.mu.Unlock()
	p.Kill()
}

// Stop ends the keeping, then the child: by StopSignal, and by force after Grace or when ctx ends, which is an error.
// A Supervisor that never started has nothing to stop.
func (k *Supervisor) Stop(ctx context.Context) error {
	if k.stop == nil {
		return nil
	}
	k.stop()
	<-k.kept
	if p := k.Process(); p != nil {
		return p.Stop(ctx, k.StopSignal, k.Grace)
	}
	return nil
}

// Kill ends the keeping and the child, with its group, at once, as a crash would. A Supervisor that never started has nothing to
// kill.
func (k *Supervisor) Kill() {
	if k.stop == nil {
		return
	}
	k.stop()
	<-k.kept
	if p := k.Process(); p != nil {
		p.Kill()
	}
}

func (k *Supervisor) start(ctx context.Context) error {
	cmd, err := k.Command()
	if err != nil {
		return err
	}
	p, err := Start(k.Name, cmd, k.Options)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.process, k.reason = p, ""
	k.mu.Unlock()
	return k.Ready(ctx, p.Done())
}

func (k *Supervisor) keep() {
	defer close(k.kept)
	backoff := firstBackoff
	for {
		began := time.Now()
		p := k.Process()
		unwatch := k.watch(p)
		select {
		case <-k.stopping.Done():
			unwatch()
			return
		case <-p.Done():
			unwatch()
		}
		if time.Since(began) > settled {
			backoff = firstBackoff
		}
		k.Say(fmt.Sprintf("%s ended (%s): starting it again", k.Name, k.why(p)))
		if !k.again(backoff) {
			return
		}
		backoff = min(2*backoff, longestBackoff)
	}
}

// watch runs Watch on a working child until the returned function is called.
func (k *Supervisor) watch(p *Process) (unwatch func()) {
	if k.Watch == nil || !p.Alive() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(k.stopping)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if reason := k.Watch(ctx); reason != "" && ctx.Err() == nil {
			k.Restart(reason)
		}
	}()
	return func() {
		cancel()
		<-watched
	}
}

// again starts the child after a while. It returns false when the keeping is over.
func (k *Supervisor) again(after time.Duration) bool {
	select {
	case <-k.stopping.Done():
		return false
	case <-time.After(after):
	}
	began := time.Now()
	err := k.start(k.stopping)
	switch {
	case k.stopping.Err() != nil:
		return false
	case err == nil:
		k.Say(fmt.Sprintf("%s is back (%.1fs)", k.Name, time.Since(began).Seconds()))
	case k.Process().Alive():
		// It is there but does not work: the same as if it had ended.
		k.Restart(err.Error())
	case !errors.Is(err, ErrEnded):
		k.Say(fmt.Sprintf("%s did not start: %v", k.Name, err))
	}
	return true
}

func (k *Supervisor) why(p *Process) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reason != "" {
		return k.reason
	}
	return p.Ended()
}

// AwaitReady calls check, with a pause of every, until it returns nil. It gives up when ended is closed, with ErrEnded, or when
// ctx ends, with check's last error; failed says then what did not happen.
func AwaitReady(ctx context.Context, ended <-chan struct{}, every time.Duration, failed string, check func(context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return ErrEnded
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", failed, err)
		case <-time.After(every):
		}
	}
}

// AskOK returns nil when a GET of the URL is answered with 200 within 5 s, and else the answer.
func AskOK(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	body, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", url, response.Status, body)
	}
	return nil
}

// ErrEnded is what Ready returns for a child that ended before it worked.
var ErrEnded = errors.New("it ended while it started")
