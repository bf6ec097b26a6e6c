package api_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBots(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	const path = "/api/internal/v1/bots"
	got := a.do("POST", path, serviceToken, `{"id":"bot-euler","name":"Euler"}`)
	require.Equal(t, http.StatusCreated, got.status)
	require.Equal(t, http.StatusConflict, a.do("POST", path, serviceToken, `{"id":"bot-euler","name":"Another"}`).status)
	require.Equal(t, http.StatusCreated, a.do("POST", path, serviceToken, `{"name":"Euler"}`).status)
	require.Equal(t, http.StatusCreated, a.do("POST", path, serviceToken, `{"name":"`+strings.Repeat("é", 200)+`"}`).status, "characters, as in the document")
	for body, field := range map[string]string{
		`{"name":"` + strings.Repeat("é", 201) + `"}`: "name",
		`{}`: "name", `{"name":""}`: "name", `{"name":null}`: "name", `{"name":5}`: "name", `{"name":"x\u0000"}`: "name",
		`{"name":"` + strings.Repeat("x", 201) + `"}`: "name", `{"id":"a.b","name":"x"}`: "id", `{"id":"","name":"x"}`: "id",
	} {
		got := a.do("POST", path, serviceToken, body)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, body)
		require.Equal(t, []string{field}, got.fields(t), body)
	}
	for _, method := range []string{"GET", "POST"} {
		require.Equal(t, http.StatusNotFound, a.do(method, path+"/nobody/keys", serviceToken, nil).status)
		require.Equal(t, http.StatusNotFound, a.do(method, path+"/a.b/keys", serviceToken, nil).status)
	}
	require.JSONEq(t, "[]", string(a.do("GET", path+"/bot-euler/keys", serviceToken, nil).body))
	var keys []struct{ ID, Key, CreatedAt string }
	for range 2 {
		var made struct{ ID, Key, CreatedAt string }
		a.do("POST", path+"/bot-euler/keys", serviceToken, nil).into(t, &made)
		require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, made.Key, nil).status)
		keys = append(keys, made)
	}
	listed := a.do("GET", path+"/bot-euler/keys", serviceToken, nil)
	var infos []struct{ ID, Prefix, CreatedAt string }
	listed.into(t, &infos)
	require.Len(t, infos, 2)
	for i, made := range keys {
		require.Equal(t, made.ID, infos[i].ID)
		require.Equal(t, made.CreatedAt, infos[i].CreatedAt)
		require.Equal(t, made.Key[:10], infos[i].Prefix)
		require.NotContains(t, string(listed.body), made.Key[:11], "no more of it is told")
	}
	require.Equal(t, http.StatusNoContent, a.do("DELETE", path+"/bot-euler/keys/"+keys[0].ID, serviceToken, nil).status)
	require.Equal(t, http.StatusUnauthorized, a.do("GET", webhooksPath, keys[0].Key, nil).status, "at once")
	require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, keys[1].Key, nil).status)
	require.Equal(t, http.StatusNotFound, a.do("DELETE", path+"/bot-euler/keys/"+keys[0].ID, serviceToken, nil).status)
	id, err := a.bots().Find(t.Context(), "bot-euler")
	require.NoError(t, err)
	require.Equal(t, "bot-euler", id)
	_, err = a.bots().Find(t.Context(), "Euler")
	require.ErrorContains(t, err, "Use the id")
	_, err = a.bots().Find(t.Context(), "nobody")
	require.ErrorContains(t, err, "No bot")
}

func TestAtMostAHundredKeysHoweverManyAtOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, _ := a.bot()
	_, err := a.pool.Exec(t.Context(), "INSERT INTO api_keys (id, bot_id, key_hash) SELECT gen_random_uuid(), $1, sha256(n::text::bytea) FROM generate_series(1, 97) n", bot)
	require.NoError(t, err)
	path := "/api/internal/v1/bots/" + bot + "/keys"
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got := a.do("POST", path, serviceToken, nil)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
		})
	}
	all.Wait()
	require.Equal(t, map[int]int{http.StatusCreated: 2, http.StatusConflict: 6}, statuses)
	var keys []struct{ ID string }
	a.do("GET", path, serviceToken, nil).into(t, &keys)
	require.Len(t, keys, 100)
	require.Equal(t, http.StatusNoContent, a.do("DELETE", path+"/"+keys[0].ID, serviceToken, nil).status)
	require.Equal(t, http.StatusCreated, a.do("POST", path, serviceToken, nil).status)
}
