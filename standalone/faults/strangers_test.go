package faults_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// What everybody else has while strangers and bots do the worst they can.
const (
	bystandersReads = 100 * time.Millisecond // p99, in the long form
	backendsEmits   = 50 * time.Millisecond  // p99, in the long form
	processMemory   = 512 << 20              // resident bytes
)

// TestStrangersAndBotsAtTheirWorst lets strangers hold connections, drip requests and try keys, and ten bots test
// hanging receivers, recover, ask for the largest pages without reading them, and use up their 600 calls a minute; all
// at once. Meanwhile another bot reads, and the backend emits on the listener of its own: every call is answered, in the long
// form soon.
func TestStrangersAndBotsAtTheirWorst(t *testing.T) {
	share(t)
	s := &siege{t: t, statuses: map[string]int{}}
	s.prepare()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.attack(ctx)
	span := either(6*time.Second, 120*time.Second)
	var reads, emits times
	var measured sync.WaitGroup
	measured.Go(func() { reads = timesOf(t, 120*time.Millisecond, span, s.read) })
	measured.Go(func() { emits = timesOf(t, 100*time.Millisecond, span, s.emit) })
	peak := s.peakMemory(span)
	measured.Wait()
	cancel()
	s.attackers.Wait()
	t.Log(s.account())
	t.Logf("a bystander's reads: %s; the backend's emits: %s; at most %d MiB resident", reads, emits, peak>>20)
	if soak {
		require.LessOrEqual(t, reads.p99(), bystandersReads, "a bystander's reads")
		require.LessOrEqual(t, emits.p99(), backendsEmits, "the backend's emits")
	}
	require.Less(t, peak, processMemory, "resident bytes")
	s.victim.Await(t, "/", len(emits)+1)
}

// siege is a product with ten bots that attack it, and one that does not.
type siege struct {
	t         *testing.T
	stack     *testkit.Stack
	backend   *testkit.API // the service API, on a listener of its own
	bots      []*testkit.Bot
	hanging   []testkit.Webhook // one of each bot's
	full      []testkit.Webhook // one of each bot's, with a history of large events
	honest    *testkit.Bot
	own       testkit.Webhook
	victim    *testkit.Receiver
	attackers sync.WaitGroup

	mu       sync.Mutex
	statuses map[string]int // by attack and what came of it
}

func (s *siege) prepare() {
	port, err := freeport.Find()
	require.NoError(s.t, err)
	internal := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s.stack = testkit.Start(s.t, testkit.Options{Env: map[string]string{
		"MATHUB_INTERNAL_ADDR": internal,
		"MATHUB_RATE_LIMIT":    "600",
	}})
	s.backend = &testkit.API{URL: "http://" + internal, ServiceToken: s.stack.API().ServiceToken}
	s.victim = testkit.NewReceiver(s.t)
	hangs := testkit.NewReceiver(s.t)
	hangs.Answer("/hang", hangs.Hang())
	s.honest = s.backend.CreateBot(s.t, "honest").At(s.stack.API())
	s.own = s.honest.CreateWebhook(s.t, s.victim.URL("/"), "", post)
	require.NoError(s.t, s.emit(s.t.Context()))
	large := fmt.Appendf(nil, `{"body":"%s"}`, strings.Repeat("x", 250<<10))
	var ids []string
	for i := range 10 {
		bot := s.backend.CreateBot(s.t, fmt.Sprintf("attacker %d", i)).At(s.stack.API())
		s.bots = append(s.bots, bot)
		ids = append(ids, bot.ID)
		s.full = append(s.full, bot.CreateWebhook(s.t, s.victim.URL("/full"), "", post))
	}
	s.backend.Emit(s.t, testkit.Event{Type: post, Data: large, BotIDs: ids})
	for i, bot := range s.bots {
		first := bot.AwaitDeliveries(s.t, s.full[i].ID, 1)[0]
		for range 30 {
			bot.Redeliver(s.t, first.ID, s.full[i].ID)
		}
		s.hanging = append(s.hanging, bot.CreateWebhook(s.t, hangs.URL("/hang"), "", "thread.created"))
	}
}

// attack begins all attacks; they end with ctx.
func (s *siege) attack(ctx context.Context) {
	for i := range 4 { // strangers, each with an address of his own
		from := fmt.Sprintf("127.0.2.%d", i+1)
		for range 600 {
			s.attackers.Go(func() { s.hold(ctx, from) })
		}
		for range 50 {
			s.attackers.Go(func() { s.drip(ctx, from) })
		}
		for form := range 2 {
			s.attackers.Go(func() { s.tryKeys(ctx, from, form) })
		}
	}
	for i, bot := range s.bots {
		from := fmt.Sprintf("127.0.3.%d", i+1)
		for range 20 {
			s.attackers.Go(func() { s.leaveUnread(ctx, from, bot, s.full[i].ID) })
		}
		client := clientFrom(from)
		webhook := "/api/bot/v1/webhooks/"
		for range 5 {
			s.calls(ctx, client, bot, time.Second/2, http.MethodPost, webhook+s.hanging[i].ID+"/test")
		}
		s.calls(ctx, client, bot, time.Second/2, http.MethodPost, webhook+s.full[i].ID+"/recover")
		s.calls(ctx, client, bot, time.Second/10, http.MethodGet, webhook+s.full[i].ID+"/deliveries")
	}
}

// hold keeps a connection open after one request, and opens it again where the product closes it.
func (s *siege) hold(ctx context.Context, from string) {
	for pause(ctx, time.Second) {
		conn, err := s.dial(ctx, from)
		if err != nil {
			continue
		}
		_, _ = fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		s.count("connection held", "opened")
		end := context.AfterFunc(ctx, func() { _ = conn.Close() })
		_, _ = io.Copy(io.Discard, conn)
		end()
		_ = conn.Close()
	}
}

// drip sends a byte of a request's header each second.
func (s *siege) drip(ctx context.Context, from string) {
	for pause(ctx, time.Second) {
		conn, err := s.dial(ctx, from)
		if err != nil {
			continue
		}
		_, err = fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
		for err == nil && pause(ctx, time.Second) {
			s.count("dripped request", "byte")
			_, err = conn.Write([]byte("x"))
		}
		_ = conn.Close()
	}
}

// leaveUnread asks for the largest page and reads none of it.
func (s *siege) leaveUnread(ctx context.Context, from string, bot *testkit.Bot, webhook string) {
	for pause(ctx, 2*time.Second) {
		conn, err := s.dial(ctx, from)
		if err != nil {
			continue
		}
		_, _ = fmt.Fprintf(conn, "GET /api/bot/v1/webhooks/%s/deliveries HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", webhook, bot.Key)
		status, err := bufio.NewReaderSize(conn, 16).Peek(12)
		if err == nil {
			s.count("page left unread", string(status[9:]))
		}
		pause(ctx, 20*time.Second)
		_ = conn.Close()
	}
}

// tryKeys asks with keys that are none: of the right form, or of no form.
func (s *siege) tryKeys(ctx context.Context, from string, form int) {
	client := clientFrom(from)
	for i := 0; pause(ctx, either(10*time.Millisecond, time.Millisecond)); i++ {
		key := fmt.Sprintf("nonsense-%d", i)
		if form == 0 {
			random := fmt.Appendf(nil, "%14s%14d", from, i) // of the right form: bot_, 28 bytes and their CRC-32
			key = "bot_" + base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(random, crc32.ChecksumIEEE(random)))
		}
		s.call(ctx, client, "wrong key", http.MethodGet, "/api/bot/v1/webhooks", key)
	}
}

// calls begins to call a path again and again, so long after each other or as soon as it is answered.
func (s *siege) calls(ctx context.Context, client *http.Client, bot *testkit.Bot, apart time.Duration, method, path string) {
	s.attackers.Go(func() {
		for pause(ctx, apart) {
			s.call(ctx, client, method+" "+path[strings.LastIndex(path, "/")+1:], method, path, bot.Key)
		}
	})
}

func (s *siege) call(ctx context.Context, client *http.Client, attack, method, path, key string) {
	request, err := http.NewRequestWithContext(ctx, method, s.stack.API().URL+path, http.NoBody)
	if err != nil {
		panic(err) // the test's own address
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := client.Do(request)
	if err != nil {
		s.count(attack, "no answer")
		return
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	s.count(attack, strconv.Itoa(response.StatusCode))
}

// read reads again, in the short form, what a 503 answers: on a busy machine the database may take longer than a read may.
func (s *siege) read(ctx context.Context) error {
	var answer testkit.Answered
	var err error
	until(time.Minute, func() bool {
		answer, err = s.stack.API().Do(ctx, http.MethodGet, "/api/bot/v1/webhooks/"+s.own.ID+"/deliveries", s.honest.Key, nil)
		return soak || err != nil || answer.Status != http.StatusServiceUnavailable
	})
	if err == nil && answer.Status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", answer.Status, answer.Body)
	}
	return err
}

func (s *siege) emit(ctx context.Context) error {
	event := testkit.Event{Type: post, BotIDs: []string{s.honest.ID}}
	if soak {
		_, err := s.backend.TryEmit(ctx, event)
		return err
	}
	_, err := s.backend.EmitPatiently(ctx, event)
	return err
}

// dial connects to the public listener from an address.
func (s *siege) dial(ctx context.Context, from string) (net.Conn, error) {
	conn, err := dialerFrom(from).DialContext(ctx, "tcp", strings.TrimPrefix(s.stack.API().URL, "http://"))
	if err != nil {
		s.count("connection", "refused")
	}
	return conn, err
}

func (s *siege) count(attack, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses[attack+": "+result]++
}

// account is what came of the attacks.
func (s *siege) account() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(s.statuses)) {
		fmt.Fprintf(&b, "\n%7d %s", s.statuses[what], what)
	}
	return b.String()
}

// peakMemory is the most that the product's process holds resident, in bytes, in that time.
func (s *siege) peakMemory(span time.Duration) int {
	s.t.Helper()
	peak := 0
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(100 * time.Millisecond) { // before it looks again
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.stack.Apps[0].Process().PID()))
		require.NoError(s.t, err)
		pages, err := strconv.Atoi(strings.Fields(string(raw))[1])
		require.NoError(s.t, err)
		peak = max(peak, pages*os.Getpagesize())
	}
	return peak
}

// times are how long calls took, from the shortest on.
type times []time.Duration

// timesOf makes a call every so often, each, in the long form, whether or not those before are
// answered. All must succeed.
func timesOf(t *testing.T, apart, span time.Duration, call func(context.Context) error) times {
	var mu sync.Mutex
	var took times
	var all sync.WaitGroup
	tick := time.NewTicker(apart)
	defer tick.Stop()
	for range span / apart {
		<-tick.C
		all.Go(func() {
			began := time.Now()
			assert.NoError(t, call(t.Context()))
			mu.Lock()
			took = append(took, time.Since(began))
			mu.Unlock()
		})
		if !soak {
			all.Wait()
		}
	}
	all.Wait()
	slices.Sort(took)
	return took
}

func (t times) p99() time.Duration { return t[len(t)*99/100] }

func (t times) String() string {
	return fmt.Sprintf("%d, p50 %v, p99 %v", len(t), t[len(t)/2].Round(time.Millisecond/10), t.p99().Round(time.Millisecond/10))
}

func dialerFrom(address string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
}

func clientFrom(address string) *http.Client {
	return &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{DialContext: dialerFrom(address).DialContext, MaxIdleConnsPerHost: 32},
	}
}

// pause waits so long; false once ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d): // the rate of an attack
		return true
	}
}
