package delivery

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// TestDeliverer_ChangedWhileItWaited: a delivery that waited for its turn is sent as its webhook is by then, or not at all.
func TestDeliverer_ChangedWhileItWaited(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(t *testing.T, r *rig, id uuid.UUID, elsewhere string)
		want   Result
		sent   bool
	}{
		"nothing": {func(*testing.T, *rig, uuid.UUID, string) {}, Result{Status: Delivered, StatusCode: 200}, true},
		"deleted": {func(t *testing.T, r *rig, id uuid.UUID, _ string) {
			r.execute(t, "DELETE FROM webhooks WHERE id = $1", id)
		}, Result{Status: Skipped, Error: WebhookGone}, false},
		"disabled":  {func(t *testing.T, r *rig, id uuid.UUID, _ string) { r.set(t, id, "is_active = false") }, Result{Status: Skipped, Error: WebhookDisabled}, false},
		"suspended": {func(t *testing.T, r *rig, id uuid.UUID, _ string) { r.set(t, id, "suspended = true") }, Result{Status: Skipped, Error: BotSuspended}, false},
		"moved": {func(t *testing.T, r *rig, id uuid.UUID, elsewhere string) {
			sealed, err := r.keyset.SealURL(id, elsewhere)
			require.NoError(t, err)
			r.execute(t, "UPDATE webhooks SET url = $2 WHERE id = $1", id, sealed)
		}, Result{Status: Queued}, false},
		"another secret": {func(t *testing.T, r *rig, id uuid.UUID, _ string) {
			sealed, err := r.keyset.Seal(id, "n3w")
			require.NoError(t, err)
			r.execute(t, "UPDATE webhooks SET secret = $2 WHERE id = $1", id, sealed)
		}, Result{Status: Delivered, StatusCode: 200}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *Config) {
				cfg.Egress = egress.New(egress.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowHTTP: true, MaxInFlightPerHost: 1})
				t.Cleanup(cfg.Egress.Close)
			})
			to, elsewhere := newReceiver(t, 200), newReceiver(t, 200)
			_, release := to.held(t)
			before, id := r.subscribe(t, to.url, ""), r.subscribe(t, to.url, "0ld")
			event := r.accepted(t)
			first := r.start(First(event.ID, before))
			to.arrived(t, 1)
			second := r.start(First(event.ID, id))
			require.Eventually(t, func() bool { inFlight, _ := r.gate.load(); return inFlight == 2 }, 3*time.Minute, time.Millisecond)
			c.change(t, r, id, elsewhere.url)
			time.Sleep(inputFresh) // real time: so that what was read before is old
			release()
			require.NoError(t, (<-first).err)
			ended := <-second
			require.NoError(t, ended.err)
			require.Equal(t, c.want, ended.Result)
			sent := to.requests()[1:]
			require.Empty(t, elsewhere.requests())
			if !c.sent {
				require.Empty(t, sent)
				return
			}
			require.Len(t, sent, 1)
			require.Equal(t, name == "another secret", sent[0].header.Get("X-Mathub-Signature") == webhook.Sign("n3w", sent[0].body))
		})
	}
}

// TestRenew_DoneMeanwhile: what a recovery has planned, another round has sent or somebody has cancelled, while an attempt waited for its
// turn, is not sent.
func TestRenew_DoneMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.subscribe(t, "https://127.0.0.1/hook", "")
	first := First(r.storedElsewhere(t).ID, id)
	before, _, err := r.load(t.Context(), first)
	require.NoError(t, err)
	before.readAt = before.readAt.Add(-inputFresh)
	renew := func(a Attempt) *Result {
		_, done, err := r.renew(t.Context(), a, before)
		require.NoError(t, err)
		return done
	}
	require.Nil(t, renew(first))

	row := r.plan(t, id, first.EventID, webhook.TriggerRecover, 0)
	require.Equal(t, &Result{Status: Queued}, renew(first))
	require.Nil(t, renew(queued(id, row)))

	first.acceptedAt = before.event.StoredAt
	_, err = r.recorder.Record(t.Context(), history.Attempt{
		DeliveryID: first.deliveryID(), WebhookID: id, EventID: first.EventID, Number: 1, Trigger: first.Trigger, Success: true, StatusCode: 200, StartedAt: time.Now(),
	})
	require.NoError(t, err)
	require.Equal(t, &Result{Status: Delivered, StatusCode: 200}, renew(first))
	require.Equal(t, &Result{Status: Delivered, StatusCode: 200}, renew(queued(id, row)))

	r.execute(t, "DELETE FROM deliveries")
	require.Equal(t, &Result{Status: Skipped, Error: NotPlanned}, renew(queued(id, row)))
}
