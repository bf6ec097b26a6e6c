package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// These are inputs as clients, their libraries and their people send them.

const botsPath = "/api/internal/v1/bots"

// TestIDsAreTakenInEitherCase (RFC 9562 §4), wherever one is given.
func TestIDsAreTakenInEitherCase(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	id := a.hook(key)
	a.historyOf(id, 3)
	var list []mathub.Delivery
	a.do("GET", webhooksPath+"/"+id+"/deliveries", key, nil).into(t, &list)
	hook, d := webhooksPath+"/"+strings.ToUpper(id), strings.ToUpper(list[0].ID)
	require.Equal(t, http.StatusOK, a.do("GET", hook, key, nil).status)
	require.Equal(t, http.StatusOK, a.do("PATCH", hook, key, `{"events":["mention"]}`).status)
	require.Equal(t, http.StatusOK, a.do("GET", hook+"/deliveries/"+d, key, nil).status)
	require.Equal(t, http.StatusAccepted, a.do("POST", hook+"/recover", key, nil).status)
	require.Equal(t, http.StatusOK, a.do("GET", hook+"/recoveries", key, nil).status)
	var older []mathub.Delivery
	a.do("GET", hook+"/deliveries?before="+d, key, nil).into(t, &older)
	require.Len(t, older, 2)
	require.Equal(t, http.StatusServiceUnavailable, a.do("POST", hook+"/deliveries/"+d+"/redeliver", key, nil).status, "found; Temporal is away")

	const event = "0195b2f4-1c00-7a3b-9d21-6f0e5a52c1d7"
	a.accepted(event, "post.created", "{}")
	require.Equal(t, event, a.event(strings.ToUpper(event), "?after="+strings.ToUpper(id)).ID)
	own := strings.ToUpper("0195b2f4-1c00-7a3b-9d21-6f0e5a52c1d8")

	path := botsPath + "/" + strings.ToUpper(bot)
	require.Equal(t, http.StatusOK, a.do("GET", path, serviceToken, nil).status)
	require.Equal(t, http.StatusOK, a.do("PATCH", path, serviceToken, `{}`).status)
	require.Equal(t, http.StatusCreated, a.do("POST", path+"/keys", serviceToken, nil).status)
	var keys []struct{ ID string }
	a.do("GET", path+"/keys", serviceToken, nil).into(t, &keys)
	require.Len(t, keys, 2)
	require.Equal(t, http.StatusNoContent, a.do("DELETE", path+"/keys/"+strings.ToUpper(keys[1].ID), serviceToken, nil).status)
	found, err := a.bots().Find(t.Context(), strings.ToUpper(bot))
	require.NoError(t, err)
	require.Equal(t, bot, found)
	created := a.do("POST", botsPath, serviceToken, `{"name":"x","id":"`+own+`"}`)
	require.Equal(t, http.StatusCreated, created.status, "%s", created.body)
	require.Equal(t, http.StatusConflict, a.do("POST", botsPath, serviceToken, `{"name":"x","id":"`+strings.ToLower(own)+`"}`).status, "it is the same id")
	require.Equal(t, http.StatusNotFound, a.do("GET", botsPath+"/Lemma", serviceToken, nil).status)
	for _, other := range []string{"{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", "")} {
		require.Equal(t, http.StatusNotFound, a.do("GET", webhooksPath+"/"+other, key, nil).status, "another form is no id of ours")
	}
	require.Equal(t, http.StatusNoContent, a.do("DELETE", hook, key, nil).status)
}

// TestAUUIDIsOneEventInEitherCase, whichever way it comes in.
func TestAUUIDIsOneEventInEitherCase(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	s.subscribe(key, "")
	const id = "b89c0b2e-1c00-7a3b-9d21-6f0e5a52c1d7"
	upper := strings.ToUpper(id)
	event := func(id string) string { return `{"id":"` + id + `","event":"post.created","data":{}}` }
	require.Equal(t, mathub.Receipt{ID: id, WorkflowID: "event-" + id}, s.emit(event(upper)))
	require.NoError(t, s.temporal.GetWorkflow(t.Context(), "event-"+id, "").Get(t.Context(), nil))
	for _, again := range []string{id, upper, upper[:18] + id[18:]} {
		require.True(t, s.emit(event(again)).Duplicate, again)
		require.Equal(t, id, s.event(again, "").ID)
	}
	for workflowID, input := range map[string]any{
		"event-" + upper: map[string]any{"id": upper, "event": "post.created", "data": map[string]any{}},
		"events-by-hand": []any{map[string]any{"id": upper, "event": "post.created", "data": map[string]any{}}},
	} {
		run, err := s.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: workflowID, TaskQueue: emit.TaskQueue}, map[bool]string{true: emit.WorkflowType, false: emit.GroupWorkflowType}[workflowID == "event-"+upper], input)
		require.NoError(t, err)
		require.NoError(t, run.Get(t.Context(), nil))
	}
	require.Len(t, s.requests(), 1)
	require.Equal(t, id, s.requests()[0].header.Get("Webhook-Id"))
	got := s.do("POST", eventsPath+"/batch", serviceToken, `{"events":[`+event(upper)+`,`+event(id)+`]}`)
	require.Equal(t, http.StatusUnprocessableEntity, got.status, "%s", got.body)
	require.Equal(t, []string{"events[1].id"}, got.fields(t))
}

// TestNullIsAsIfLeftOut in every body, but where PATCH gives it a meaning.
func TestNullIsAsIfLeftOut(t *testing.T) {
	t.Parallel()
	a := newAPI(t, temporaltest.New(t), nil)
	_, key := a.bot()
	got := a.do("POST", webhooksPath, key, `{"url":"https://example.com/","events":["mention"],"secret":null}`)
	require.Equal(t, http.StatusCreated, got.status, "%s", got.body)
	require.Contains(t, string(got.body), `"hasSecret":false`)

	id := a.hook(key)
	path := webhooksPath + "/" + id
	before := string(a.do("GET", path, key, nil).body)
	got = a.do("PATCH", path, key, `{"url":null,"events":null,"isActive":null,"secretOverlap":null}`)
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	require.Equal(t, before, string(a.do("GET", path, key, nil).body), "nothing is changed")
	require.Contains(t, string(a.do("PATCH", path, key, `{"secret":null}`).body), `"hasSecret":false`, "here it has a meaning")
	require.Equal(t, http.StatusAccepted, a.do("POST", path+"/recover", key, `{"since":null,"until":null}`).status)

	got = a.do("POST", botsPath, serviceToken, `{"id":null,"name":"x","notifyUrl":null,"notifySecret":null}`)
	require.Equal(t, http.StatusCreated, got.status, "%s", got.body)
	got = a.do("POST", botsPath, serviceToken, `{"id":"b","name":"x","notifyUrl":"https://example.com/"}`)
	require.Equal(t, http.StatusCreated, got.status, "%s", got.body)
	got = a.do("PATCH", botsPath+"/b", serviceToken, `{"notifySecret":null}`)
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	require.Contains(t, string(got.body), `"notifyUrl":"https://example.com/"`)
	require.Contains(t, string(a.do("PATCH", botsPath+"/b", serviceToken, `{"notifyUrl":null}`).body), `"notifyUrl":null`, "here it has a meaning")

	const event = `{"id":null,"event":"post.created","timestamp":null,"data":{"kept":null},"botIds":null}`
	require.Equal(t, http.StatusAccepted, a.do("POST", eventsPath, serviceToken, event).status)
	require.Equal(t, http.StatusAccepted, a.do("POST", eventsPath+"/batch", serviceToken, `{"events":[`+event+`,`+event+`]}`).status)
}

// request sends body with these headers, "Name: value"; chunked, of no stated length, if it is to be.
func (a *testAPI) request(method, path, token, body string, chunked bool, headers ...string) answer {
	a.t.Helper()
	var content io.Reader = strings.NewReader(body)
	if chunked {
		content = io.MultiReader(content)
	}
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, content)
	require.NoError(a.t, err)
	if chunked {
		req.ContentLength = -1
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Set(name, value)
	}
	return a.send(req)
}

func TestAnEmptyBodyIsNoBody(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	for _, contentType := range []string{"Content-Type: ", "Content-Type: application/json", "Content-Type: application/x-www-form-urlencoded", "Content-Encoding: gzip"} {
		for _, chunked := range []bool{false, true} {
			id := a.hook(key)
			got := a.request("POST", webhooksPath+"/"+id+"/recover", key, "", chunked, contentType)
			require.Equal(t, http.StatusAccepted, got.status, "%s, chunked %t: %s", contentType, chunked, got.body)
			got = a.request("POST", botsPath+"/"+bot+"/keys", serviceToken, "", chunked, contentType)
			require.Equal(t, http.StatusCreated, got.status, "%s, chunked %t: %s", contentType, chunked, got.body)
			require.Equal(t, http.StatusNoContent, a.request("DELETE", webhooksPath+"/"+id, key, "", chunked, contentType).status)
		}
	}
	id := a.hook(key)
	require.Equal(t, http.StatusUnsupportedMediaType, a.request("POST", webhooksPath+"/"+id+"/recover", key, "{}", true, "Content-Type: text/plain").status)
	require.Equal(t, http.StatusBadRequest, a.request("POST", webhooksPath, key, "", true, "Content-Type: application/json").status, "where a body is needed")

	// A call that takes no body looks at none.
	require.Equal(t, http.StatusNoContent, a.request("DELETE", webhooksPath+"/"+id, key, `{"really":true}`, false, "Content-Type: application/json").status)
}

func TestContentTypesAreTakenAsClientsWriteThem(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	const body = `{"url":"https://example.com/","events":["mention"]}`
	for _, contentType := range []string{
		"application/json", "Application/JSON", "application/json;", "application/json; charset=utf-8", "application/json;charset=UTF-8", `application/json; charset="utf-8"`,
		"application/json; charset=utf8", "application/json; charset=UTF8", "application/json; charset=us-ascii", "application/json; indent=2",
		"application/merge-patch+json", "application/vnd.mathub.v1+json; charset=utf-8",
	} {
		got := a.request("POST", webhooksPath, key, body, false, "Content-Type: "+contentType)
		require.Equal(t, http.StatusCreated, got.status, "%s: %s", contentType, got.body)
	}
	require.Equal(t, http.StatusCreated, a.request("POST", webhooksPath, key, body, false, "Content-Type: application/json", "Content-Encoding: identity").status)
	require.Equal(t, http.StatusCreated, a.request("POST", webhooksPath, key, "\ufeff"+body, false, "Content-Type: application/json").status, "a byte order mark")
	for contentType, says := range map[string]string{
		"application/json; charset=iso-8859-1": "UTF-8", "application/json; charset=utf-16": "UTF-8", "application/json; charset=x": "UTF-8",
		"": "application/json", "text/plain": "application/json", "text/json": "application/json", "json": "application/json", "application/json+": "application/json",
	} {
		got := a.request("POST", webhooksPath, key, body, false, "Content-Type: "+contentType)
		require.Equal(t, http.StatusUnsupportedMediaType, got.status, contentType)
		require.Contains(t, got.fault(t).Detail, says, contentType)
	}
	for _, coding := range []string{"gzip", "br", "deflate", "GZIP", "identity, gzip"} {
		for _, path := range []string{webhooksPath, eventsPath, eventsPath + "/batch", botsPath} {
			token := key
			if path != webhooksPath {
				token = serviceToken
			}
			got := a.request("POST", path, token, "\x1f\x8b\x08\x00", false, "Content-Type: application/json", "Content-Encoding: "+coding)
			require.Equal(t, http.StatusUnsupportedMediaType, got.status, coding)
			require.Contains(t, got.fault(t).Detail, "Content-Encoding")
			require.Equal(t, "identity", got.header.Get("Accept-Encoding"))
		}
	}
}

// TestAnotherMethodIsAnsweredWithThoseAllowed, on every path of the contract.
func TestAnotherMethodIsAnsweredWithThoseAllowed(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	id := a.hook(key)
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	for path, item := range document.Paths.Map() {
		own, token := id, key
		if strings.HasPrefix(path, "/api/internal") {
			own, token = bot, serviceToken
		}
		at := strings.NewReplacer("{id}", own, "{deliveryId}", id, "{keyId}", id).Replace(path)
		has := item.Operations()
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			if has[method] != nil || method == "HEAD" && has["GET"] != nil {
				continue
			}
			got := a.answerTo(method, at, token)
			require.Equal(t, http.StatusMethodNotAllowed, got.status, "%s %s: %s", method, at, got.body)
			allowed := strings.Split(got.header.Get("Allow"), ", ")
			for each := range has {
				require.Contains(t, allowed, each, "%s %s", method, at)
			}
			require.Equal(t, slices.Contains(allowed, "GET"), slices.Contains(allowed, "HEAD"), "%s %s", method, at)
		}
	}
	a.accepted("batch", "post.created", "{}")
	require.Equal(t, http.StatusOK, a.answerTo("GET", eventsPath+"/batch", serviceToken).status, "an event may have that id")
}

// answerTo is do without a body, also of HEAD, whose answer has none.
func (a *testAPI) answerTo(method, path, token string) answer {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, http.NoBody)
	require.NoError(a.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(a.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	return answer{resp.StatusCode, resp.Header, body}
}

// TestAPatchMayBeSentAgain, as clients do whose answer was lost: it changes nothing more.
func TestAPatchMayBeSentAgain(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	path := webhooksPath + "/" + a.hook(key)
	previous := func() (sealed []byte) {
		require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT previous_secret FROM webhooks").Scan(&sealed))
		return sealed
	}
	for _, body := range []string{
		`{"secret":"B","secretOverlap":"1h"}`,
		`{"url":"https://example.com/other","events":["mention","wiki.edited"]}`,
		`{"isActive":false}`,
		`{"isActive":false,"secret":"B"}`,
		`{"secret":null}`,
	} {
		got := a.do("PATCH", path, key, body)
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		sealed := previous()
		again := a.do("PATCH", path, key, body)
		require.Equal(t, http.StatusOK, again.status, "%s", again.body)
		require.Equal(t, string(got.body), string(again.body), body)
		require.Equal(t, sealed, previous(), "%s: the secret before the new one still signs", body)
	}

	// Also while the first is being answered.
	path = webhooksPath + "/" + a.hook(key)
	a.execute("DELETE FROM webhooks WHERE previous_secret IS NULL AND secret IS NULL")
	var both sync.WaitGroup
	for range 4 {
		both.Go(func() {
			req, _ := http.NewRequest(http.MethodPatch, a.url+path, strings.NewReader(`{"secret":"C","secretOverlap":"1h"}`))
			req.Header.Set("Authorization", "Bearer "+key)
			req.Header.Set("Content-Type", "application/json")
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		})
	}
	both.Wait()
	id := must(t, path[len(webhooksPath)+1:])
	before, err := a.keyset.Open(id, previous())
	require.NoError(t, err)
	require.Equal(t, "s3cret", before)
}

func TestSecretsThatSomeoneLostACharacterOfAreRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	path := webhooksPath + "/" + a.hook(key)
	for secret, says := range map[string]string{
		"s3cret\n": "must not begin or end with white space", " s3cret": "white space", "s3cret\r\n": "white space", "\ts3cret": "white space", "s3cret\u00a0": "white space",
		"v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": "without the v1,", "whsec_not base64": "base64", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n": "white space",
	} {
		quoted, err := json.Marshal(secret)
		require.NoError(t, err)
		for _, door := range []struct{ method, path, token, body, field string }{
			{"POST", webhooksPath, key, `{"url":"https://example.com/","events":["mention"],"secret":%s}`, "secret"},
			{"PATCH", path, key, `{"secret":%s}`, "secret"},
			{"POST", botsPath, serviceToken, `{"name":"x","notifyUrl":"https://example.com/","notifySecret":%s}`, "notifySecret"},
		} {
			got := a.do(door.method, door.path, door.token, fmt.Sprintf(door.body, quoted))
			require.Equal(t, http.StatusUnprocessableEntity, got.status, "%q: %s", secret, got.body)
			require.Equal(t, []string{door.field}, got.fields(t))
			require.Contains(t, string(got.body), says, "%q", secret)
		}
	}
}

func TestABatchNamesTheEventThatIsNoJSONOfOurs(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	const plain = `{"event":"post.created","data":{}}`
	for data, says := range map[string]string{
		`{"x":"\ud800"}`: "surrogate", "{\"x\":\"\xff\"}": "UTF-8", `{"x":1,"x":2}`: "duplicate name",
		`{"x":` + strings.Repeat("[", 97) + strings.Repeat("]", 97) + `}`: "nested deeper than 98",
	} {
		got := a.do("POST", eventsPath+"/batch", serviceToken, `{"events":[`+plain+`,{"event":"post.created","data":`+data+`}]}`)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, "%.60q: %s", data, got.body)
		require.Equal(t, []string{"events[1]"}, got.fields(t))
		require.Contains(t, string(got.body), says)
	}
}

// TestTheDeepestEventIsReadByEveryParser: the answers that an event stands in nest no deeper than Ruby's parser reads.
func TestTheDeepestEventIsReadByEveryParser(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id := s.subscribe(key, "")
	r := s.emit(`{"event":"post.created","data":{"x":` + strings.Repeat("[", 96) + strings.Repeat("]", 96) + `}}`)
	var list []mathub.Delivery
	require.Eventually(t, func() bool {
		list = s.deliveries(key, id)
		return len(list) == 1
	}, 3*time.Minute, 20*time.Millisecond)
	require.Equal(t, 98, depth(t, []byte(s.requests()[0].body)))
	deepest := 0
	for _, got := range []answer{
		s.do("GET", webhooksPath+"/"+id+"/deliveries", key, nil),
		s.do("GET", webhooksPath+"/"+id+"/deliveries/"+list[0].ID, key, nil),
		s.do("POST", webhooksPath+"/"+id+"/deliveries/"+list[0].ID+"/redeliver", key, nil),
		s.do("GET", pollPath, key, nil),
		s.do("GET", eventsPath+"/"+r.ID, serviceToken, nil),
	} {
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		deepest = max(deepest, depth(t, got.body))
	}
	require.Equal(t, 100, deepest)
}

// depth is how many objects and arrays stand in one another.
func depth(t *testing.T, raw []byte) (deepest int) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(raw))
	for now := 0; ; {
		token, err := decoder.Token()
		if err == io.EOF {
			return deepest
		}
		require.NoError(t, err)
		switch token {
		case json.Delim('['), json.Delim('{'):
			now++
			deepest = max(deepest, now)
		case json.Delim(']'), json.Delim('}'):
			now--
		}
	}
}
