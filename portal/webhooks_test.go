package portal_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/webhook"
)

const list = "/portal/webhooks"

// subscribe creates a webhook by the form and returns its path.
func (b *browser) subscribe(form url.Values) string {
	b.t.Helper()
	got := b.post(list, form)
	require.Equal(b.t, http.StatusOK, got.status, got.body)
	require.Equal(b.t, "no-store", got.header.Get("Cache-Control"))
	return regexp.MustCompile(list + "/[0-9a-f-]{36}").FindString(got.body)
}

func hookForm(more ...string) url.Values {
	f := url.Values{"url": {"https://bots.example.org/mathub"}, "events": {"post.created", "mention"}, "kind": {"generated"}}
	for i := 0; i+1 < len(more); i += 2 {
		f[more[i]] = strings.Fields(more[i+1])
	}
	return f
}

func TestWebhooks_FromEmptyToDeleted(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	empty := b.get(list).body
	require.Contains(t, empty, "Get your first event")
	require.Contains(t, empty, "MATHUB_WEBHOOK_SECRET", "a receiver to copy")
	require.Contains(t, empty, "mathub-webhooks listen")

	got := b.post(list, hookForm("name", "Production"))
	require.Equal(t, http.StatusOK, got.status, got.body)
	secret := regexp.MustCompile(`whsec_[A-Za-z0-9+/=]{44}`).FindString(html.UnescapeString(got.body))
	require.NoError(t, webhook.ValidateSecret(secret))
	require.Equal(t, 4, strings.Count(html.UnescapeString(got.body), secret), "by itself, and in three receivers")
	hook := regexp.MustCompile(list + "/[0-9a-f-]{36}").FindString(got.body)

	shown := b.get(list).body
	require.Contains(t, shown, "Production")
	require.Contains(t, shown, "bots.example.org/mathub")
	require.NotContains(t, shown, "whsec_")
	one := b.get(hook).body
	require.Contains(t, one, "https://bots.example.org/mathub")
	require.NotContains(t, one, "whsec_")

	require.Contains(t, b.get(hook+"/edit").body, `value="https://bots.example.org/mathub"`)
	changed := b.post(hook+"/edit", hookForm("url", "https://bots.example.org/other", "events", "wiki.edited", "name", ""))
	require.Equal(t, http.StatusSeeOther, changed.status, changed.body)
	require.Equal(t, hook+"?done=webhook-changed", changed.header.Get("Location"))
	one = b.get(changed.header.Get("Location")).body
	require.Contains(t, one, "The changes are saved.")
	require.Contains(t, one, "bots.example.org/other")
	require.Contains(t, one, "wiki.edited")
	require.NotContains(t, one, "Production")

	require.Equal(t, http.StatusSeeOther, b.post(hook+"/disable", nil).status)
	require.Contains(t, b.get(hook).body, "Paused by you")
	require.Equal(t, hook+"?done=enabled", b.post(hook+"/enable", nil).header.Get("Location"))
	require.Contains(t, b.get(hook).body, "Active")

	rotated := b.post(hook+"/rotate", url.Values{"kind": {"generated"}, "overlap": {"24h"}})
	require.Equal(t, http.StatusOK, rotated.status, rotated.body)
	require.Contains(t, rotated.body, "also signs until")
	require.NotContains(t, html.UnescapeString(rotated.body), secret)
	again := b.post(hook+"/rotate", url.Values{"kind": {"generated"}, "overlap": {"24h"}})
	require.Equal(t, http.StatusUnprocessableEntity, again.status, "the first secret goes on signing")
	require.Contains(t, again.body, `id="secretOverlap-error"`)
	require.Contains(t, again.body, "the secret before the present one signs until")
	require.Contains(t, b.get(hook).body, "also signs until")

	wrong := b.post(hook+"/delete", url.Values{"host": {"example.org"}})
	require.Equal(t, http.StatusUnprocessableEntity, wrong.status)
	require.Contains(t, wrong.body, "must be bots.example.org")
	deleted := b.post(hook+"/delete", url.Values{"host": {" Bots.Example.org "}})
	require.Equal(t, list+"?done=webhook-deleted", deleted.header.Get("Location"))
	require.Equal(t, http.StatusNotFound, b.get(hook).status)
}

// TestWebhookForm_Faults: what is wrong stands beside its field, and what was typed stays, but for the secret.
func TestWebhookForm_Faults(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	hook := b.subscribe(hookForm())
	for name, c := range map[string]struct {
		path  string
		form  url.Values
		field string
	}{
		"http":            {list, hookForm("url", "http://bots.example.org/"), "url"},
		"no URL":          {list, hookForm("url", ""), "url"},
		"localhost":       {list, hookForm("url", "https://localhost/"), "url"},
		"no events":       {list, hookForm("events", ""), "events"},
		"unknown event":   {list, hookForm("events", "post.created no.such"), "events"},
		"a test event":    {list, hookForm("events", "test"), "events"},
		"own, but none":   {list, hookForm("kind", "own"), "secret"},
		"weak secret":     {list, hookForm("kind", "own", "secret", "whsec_short"), "secret"},
		"unsigned":        {list, hookForm("kind", "none"), "unsigned"},
		"long name":       {list, hookForm("name", strings.Repeat("n", 101)), "name"},
		"edit to http":    {hook + "/edit", hookForm("url", "http://bots.example.org/"), "url"},
		"edit to nothing": {hook + "/edit", hookForm("events", ""), "events"},
		"rotate to none":  {hook + "/rotate", url.Values{"kind": {"none"}}, "unsigned"},
		"no overlap":      {hook + "/rotate", url.Values{"kind": {"generated"}}, "overlap"},
		"long overlap":    {hook + "/rotate", url.Values{"kind": {"generated"}, "overlap": {"1000h"}}, "secretOverlap"},
	} {
		t.Run(name, func(t *testing.T) {
			got := b.post(c.path, c.form)
			require.Equal(t, http.StatusUnprocessableEntity, got.status, got.body)
			require.Contains(t, got.body, `id="`+c.field+`-error"`)
			require.NotContains(t, got.body, "whsec_short")
			if c.form.Has("url") {
				require.Contains(t, got.body, `value="`+c.form.Get("url")+`"`)
			}
			for _, event := range c.form["events"] {
				if event == "post.created" {
					require.Contains(t, got.body, `value="post.created" checked`)
				}
			}
		})
	}
	unsigned := b.post(list, hookForm("kind", "none", "unsigned", "yes"))
	require.Equal(t, http.StatusOK, unsigned.status)
	require.Contains(t, unsigned.body, "It is unsigned")
	require.Contains(t, unsigned.body, "Another webhook", "with the same URL and events")
	own := b.post(list, hookForm("kind", "own", "secret", `a"b<c>`))
	require.Equal(t, http.StatusOK, own.status)
	require.Contains(t, html.UnescapeString(own.body), `"a\"b\u003cc\u003e"`, "as a literal of three languages")
}

// TestWebhookForm_OwnHeaders: they are set by lines and removed by ticks, their values are not shown again, and a fault names
// the header at fault.
func TestWebhookForm_OwnHeaders(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	form := hookForm()
	form.Set("headers", "Authorization: Bearer canary\r\n\r\nX-Tenant:canary\n")
	hook := b.subscribe(form)
	require.Contains(t, b.get(hook).body, `<span class="tag">Authorization</span><span class="tag">X-Tenant</span>`)
	require.NotContains(t, b.get(hook).body+b.get(hook+"/edit").body, "canary")

	form = hookForm()
	form["removeHeader"] = []string{"Authorization"}
	form.Set("headers", "X-Other: canary")
	require.Equal(t, http.StatusSeeOther, b.post(hook+"/edit", form).status)
	require.Contains(t, b.get(hook).body, `<span class="tag">X-Other</span><span class="tag">X-Tenant</span>`)

	for lines, want := range map[string]string{"no colon": "must be lines of the form Name: value", "Host: canary": "Host is a header that HTTP or the delivery sets", "X-A:": "X-A must not be empty", "X-A: canary\nX-A: 2": "X-A is given twice"} {
		form := hookForm()
		form.Set("headers", lines)
		for _, path := range []string{hook + "/edit", list} {
			got := b.post(path, form)
			require.Equal(t, http.StatusUnprocessableEntity, got.status, lines)
			require.Contains(t, got.body, want)
			require.NotContains(t, got.body, "canary")
		}
	}
}

func TestWebhooks_SearchAndFilters(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	b.subscribe(hookForm("name", "Alpha", "url", "https://one.example.org/a?token=x"))
	paused := b.subscribe(hookForm("name", "Beta", "url", "https://two.example.org/", "events", "wiki.edited"))
	failing := b.subscribe(hookForm("name", "Gamma", "url", "https://three.example.org/"))
	broken := b.subscribe(hookForm("name", "Delta", "url", "https://four.example.org/"))
	b.post(paused+"/disable", nil)
	_, err := s.pool.Exec(t.Context(), "UPDATE webhooks SET failure_count = 3, failing_since = now() - interval '2 days' WHERE id = $1", failing[len(list)+1:])
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "UPDATE webhooks SET failure_count = 10, is_active = false, disabled_at = now(), disabled_reason = 'failures' WHERE id = $1", broken[len(list)+1:])
	require.NoError(t, err)
	names := func(query string) (found []string) {
		body := b.get(list + "?" + query).body
		for _, name := range []string{"Alpha", "Beta", "Gamma", "Delta"} {
			if strings.Contains(body, `>`+name+`</a>`) {
				found = append(found, name)
			}
		}
		return found
	}
	require.Equal(t, []string{"Alpha", "Beta", "Gamma", "Delta"}, names(""))
	require.Equal(t, []string{"Alpha"}, names("q=+alPHA"))
	require.Equal(t, []string{"Beta"}, names("q=two.example"))
	require.Equal(t, []string{"Gamma"}, names("q="+failing[len(list)+1:]))
	require.Equal(t, []string{"Alpha"}, names("state=active"))
	require.Equal(t, []string{"Beta"}, names("state=paused"))
	require.Equal(t, []string{"Gamma"}, names("state=failing"))
	require.Equal(t, []string{"Delta"}, names("state=disabled"))
	require.Equal(t, []string{"Beta"}, names("type=wiki.edited"))
	require.Empty(t, names("type=wiki.edited&state=active"))
	body := b.get(list).body
	require.Contains(t, body, "Failing, 3 of 10")
	require.Contains(t, b.get(failing).body, "3 deliveries in a row failed since <time")
	s.execute("UPDATE webhooks SET failure_count = 1 WHERE failure_count = 3")
	require.Contains(t, b.get(failing).body, "The last delivery failed at <time")
	require.Contains(t, body, `<b>Delta</b> was disabled`, "a banner")
	require.Equal(t, broken+"/recover?done=enabled", b.post(broken+"/enable", url.Values{"then": {"recover"}}).header.Get("Location"))
}

// TestWebhooks_WhatAnotherSees: another bot's webhook is not there, on no route; the role view sees it, and no button, and
// changes nothing.
func TestWebhooks_WhatAnotherSees(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	hook := s.signIn(id, bots.Manage).subscribe(hookForm("name", "Mine"))
	otherID, _ := s.bot()
	other, viewer := s.signIn(otherID, bots.Manage), s.signIn(id, bots.View)
	for _, path := range []string{hook, list + "/" + uuid.NewString(), list + "/no-uuid"} {
		for _, page := range []string{"", "/edit", "/rotate", "/test", "/delete"} {
			require.Equal(t, http.StatusNotFound, other.get(path+page).status, page)
		}
		for _, action := range []string{"/edit", "/rotate", "/test", "/delete", "/enable", "/disable", "/verify", "/retry-now"} {
			require.Equal(t, http.StatusNotFound, other.post(path+action, hookForm("host", "bots.example.org")).status, action)
		}
	}
	for _, page := range []string{list, hook} {
		body := viewer.get(page).body
		require.Contains(t, body, "Mine")
		require.NotRegexp(t, `method="post" action="/portal/webhooks|/new"|/edit"|/delete"|/test"|/rotate"`, body)
	}
	for _, page := range []string{"/new", hook[len(list):] + "/edit", hook[len(list):] + "/rotate", hook[len(list):] + "/test", hook[len(list):] + "/delete"} {
		require.Equal(t, http.StatusForbidden, viewer.get(list+page).status, page)
	}
	for _, action := range []string{"/edit", "/rotate", "/test", "/delete", "/enable", "/disable", "/verify", "/retry-now"} {
		require.Equal(t, http.StatusForbidden, viewer.post(hook+action, hookForm("host", "bots.example.org")).status, action)
	}
	require.Equal(t, http.StatusForbidden, viewer.post(list, hookForm()).status)
	require.Contains(t, viewer.get(hook).body, "Active", "and it is as it was")
}

// TestWebhook_AnOperatorsNoteIsShown to whom it is for.
func TestWebhook_AnOperatorsNoteIsShown(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	hook := b.subscribe(hookForm())
	_, err := s.pool.Exec(t.Context(), "UPDATE webhooks SET is_active = false, disabled_at = now(), disabled_reason = 'operator', disabled_note = 'Floods <us>.' WHERE id = $1", hook[len(list)+1:])
	require.NoError(t, err)
	require.Contains(t, b.get(hook).body, "It says: “<bdi>Floods &lt;us&gt;.</bdi>”.")
}

// TestWebhookForm_Filter: fields are chosen and values written one a line; it is tried before it is saved; and faults stand beside
// it.
func TestWebhookForm_Filter(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	filter := func(fields, values []string) url.Values {
		f := hookForm("events", "thread.created mention")
		f["filterField"], f["filterValues"] = fields, values
		return f
	}
	form := b.get(list + "/new").body
	require.Equal(t, 3, strings.Count(form, `name="filterField"`))
	require.Contains(t, form, `<option value="projectSlug">projectSlug (thread.created, effort.created, effort.status_changed, wiki.edited)</option>`)

	s.execute(`INSERT INTO events (id, type, payload, run_id) SELECT 'e' || n, 'thread.created',
		convert_to('{"event":"thread.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"projectSlug":"p' || n || '"}}', 'UTF8'), 'run' FROM generate_series(1, 120) n`)
	try := filter([]string{"projectSlug", "", ""}, []string{"p120\r\n p119 \r\n\r\nno, comma", "", ""})
	try.Set("preview", "filter")
	try.Set("kind", "own")
	try.Set("secret", "canary")
	try.Set("headers", "X-A: canary")
	got := b.post(list, try)
	require.Equal(t, http.StatusOK, got.status, got.body)
	require.Contains(t, got.body, "Would have matched 2 of the last 100 events")
	require.Contains(t, got.body, `<option value="projectSlug" selected>`)
	require.Contains(t, got.body, "Fields of the chosen event types")
	require.NotContains(t, got.body, "canary")
	require.NotContains(t, b.get(list).body, "bots.example.org", "nothing is made")

	hook := b.subscribe(filter([]string{"projectSlug", "authorId"}, []string{"number-theory\nno, comma", "u1"}))
	require.Contains(t, b.get(hook).body, "<code>authorId</code>: <bdi>u1</bdi><br><code>projectSlug</code>: <bdi>number-theory</bdi>, <bdi>no, comma</bdi>")
	edit := b.get(hook + "/edit").body
	require.Contains(t, edit, ">number-theory\nno, comma</textarea>")
	require.Equal(t, 3, strings.Count(edit, `name="filterField"`))
	try = filter([]string{"projectSlug"}, []string{"p1"})
	try.Set("preview", "filter")
	require.Contains(t, b.post(hook+"/edit", try).body, "Would have matched 0 of the last 100 events", "the first came before these")

	for want, c := range map[string][2]string{
		"pageSlug is not a field of these event types": {"pageSlug", "x"},
		"needs the field that the values are of":       {"", "x"},
		"threadId needs a value":                       {"threadId", " \n"},
		"threadId[0] must have at most 256 bytes":      {"threadId", strings.Repeat("x", 257)},
	} {
		for _, path := range []string{hook + "/edit", list} {
			for _, more := range []string{"", "preview"} {
				f := filter([]string{c[0]}, []string{c[1]})
				f.Set(more, "filter")
				got := b.post(path, f)
				require.Equal(t, http.StatusUnprocessableEntity, got.status, want)
				require.Contains(t, got.body, want)
				require.Contains(t, got.body, `id="filter-error"`)
			}
		}
	}
	alone := filter([]string{"projectSlug"}, []string{"x"})
	alone["events"] = []string{"mention"}
	require.Contains(t, b.post(hook+"/edit", alone).body, "projectSlug is not a field of these event types")

	// What a line cannot have stays, unless it is changed.
	s.execute(`UPDATE webhooks SET filter = '{"title":["a\nb"," ","c\rd","so\u00adft"]}'`)
	require.Contains(t, b.get(hook+"/edit").body, "\nso\u00adft</textarea>", "what is sent back has no mark in it")
	require.Equal(t, http.StatusSeeOther, b.post(hook+"/edit", filter([]string{"title"}, []string{"a\r\nb\r\n \r\nc\r\nd\r\nso\u00adft"})).status)
	var kept string
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT filter::text FROM webhooks").Scan(&kept))
	require.JSONEq(t, `{"title":["a\nb"," ","c\rd","so\u00adft"]}`, kept)
	s.execute(`UPDATE webhooks SET filter = '{"title":[""]}'`)
	require.Equal(t, http.StatusSeeOther, b.post(hook+"/edit", filter([]string{"title", ""}, []string{"", ""})).status, "nor does it keep the rest from being changed")
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT filter::text FROM webhooks").Scan(&kept))
	require.JSONEq(t, `{"title":[""]}`, kept)
	require.Equal(t, http.StatusSeeOther, b.post(hook+"/edit", filter(nil, nil)).status)
	require.NotContains(t, b.get(hook).body, "<dt>Filter</dt>")
}
