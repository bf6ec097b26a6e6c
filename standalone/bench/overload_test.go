package bench_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mathub/webhooks/standalone/servers"
)

// overloadTime is for how long twice the capacity is offered.
const overloadTime = 10 * time.Second

// TestOverload offers twice as many events as a burst is taken in, by up to 1,000 connections, to one webhook and to ten: each
// call is answered 202 or, within a second of having a connection, 503; what was accepted arrives within two.
func TestOverload(t *testing.T) {
	measures(t)
	r := newReport(t)
	product := newProduct(t, start(t, servers.Options{}))
	warmUp(t, product)
	for range *rounds {
		for _, b := range singles[:2] {
			a := newAudience(t, product, b.webhooks)
			capacity := a.burst(t, sized(b.calls), a.emit) / float64(b.webhooks)
			a.check(t)
			r.overload(t, a, "twice the capacity, "+b.name, 2*capacity)
			a.retire(t)
		}
	}
	for _, b := range singles[:2] {
		name := "twice the capacity, " + b.name
		r.atMost(name+": p99 of what was accepted, ms", name+", p99", 2000)
		r.atMost(name+": p99 of refusals, ms", name+": refused, p99", 1000)
	}
	r.write(t)
}

// overload offers so many events a second.
func (r *report) overload(t *testing.T, a *audience, name string, perSecond float64) {
	t.Helper()
	o := &offered{client: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 1000, MaxConnsPerHost: 1000}}, accepted: map[string]time.Time{}}
	n := int(perSecond * overloadTime.Seconds())
	before, queued := a.count.Load(), a.everQueued(t)
	began := time.Now()
	var all sync.WaitGroup
	for i := range n {
		time.Sleep(time.Until(began.Add(time.Duration(float64(i) / perSecond * float64(time.Second))))) // the rate of the emits
		event := a.nextEvent()
		all.Go(func() { o.call(t, a, event.ID, event) })
	}
	all.Wait()
	a.events.Add(-int64(n - len(o.accepted)))
	a.await(t, before+int64(len(o.accepted)*a.webhooks))
	a.check(t)
	r.add(name+": accepted", "events/s", float64(len(o.accepted))/time.Since(began).Seconds())
	r.addLatency(name, o.late(&a.arrivals))
	r.add(name+": went to queues", "deliveries", float64(a.everQueued(t)-queued))
	if len(o.refused) > 0 {
		slices.Sort(o.refused)
		r.addLatency(name+": refused", o.refused)
	} else {
		r.addLatency(name+": refused", []time.Duration{0})
	}
}

// offered is what came of events that were offered.
type offered struct {
	client *http.Client

	mu       sync.Mutex
	accepted map[string]time.Time // by the event's id, when its call had a connection
	refused  []time.Duration      // after which calls were refused
}

func (o *offered) call(t *testing.T, a *audience, id string, event any) {
	body, err := json.Marshal(event)
	if err != nil {
		t.Error(err)
		return
	}
	began := time.Now()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { began = time.Now() }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.api.URL+eventsPath, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+a.api.ServiceToken)
	response, err := o.client.Do(request)
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, response.Body) // its status says all
	_ = response.Body.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	switch response.StatusCode {
	case http.StatusAccepted:
		o.accepted[id] = began
	case http.StatusServiceUnavailable:
		if response.Header.Get("Retry-After") == "" {
			t.Error("a refusal without Retry-After")
		}
		o.refused = append(o.refused, time.Since(began))
	default:
		t.Errorf("status %d", response.StatusCode)
	}
}

// late is how long after its emission each accepted event arrived first, in order.
func (o *offered) late(arrivals *sync.Map) (took []time.Duration) {
	for id, at := range o.accepted {
		if arrived, ok := arrivals.Load(id); ok {
			took = append(took, arrived.(time.Time).Sub(at))
		}
	}
	slices.Sort(took)
	return took
}
