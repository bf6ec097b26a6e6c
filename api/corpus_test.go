package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// jsonTaken are JSON texts that RFC 8259 allows and that every parser should take.
var jsonTaken = []string{
	`null`, `true`, `false`, `0`, `-0`, `-0.0`, `1`, `-1`, `0.5`, `1e5`, `1E5`, `1e+5`, `1e-5`, `0e0`, `0E+1`, `123.456e-7`,
	`123456789012345678901234567890`, `0.1000000000000000055511151231257827`, `1e400`, `-1e-400`, `1.7976931348623157e309`,
	`""`, `" "`, `"a"`, `"\""`, `"\\"`, `"\/"`, `"\b\f\n\r\t"`, `"\u0000"`, `"\u001f"`, `"\u00e9"`, `"\u2028\u2029"`, `"\ud83d\ude00"`, `"\uFFFF"`, `"\ufdd0"`,
	"\"\u2028\u2029\"", "\"\u007f\"", "\"\ufeff\"", "\"é\"", "\"😀\"", "\"\U0010ffff\"", `"<script>&</script>"`, `"\u003cscript\u003e"`,
	`[]`, `[ ]`, `[null]`, `[1,2,3]`, `[[],[[]]]`, `[""]`, "[\t\n\r ]", ` [1 , 2] `, `{}`, `{ }`, `{"":0}`, `{"a":{}}`, `{"a":[{}]}`, `{"a":1,"b":1}`,
	`{"a\u0000b":1}`, `{"\u0061":1,"b":2}`, `{"__proto__":{}}`, `{"constructor":1}`, `{"a":1,"A":2}`, `{"toString":null}`,
	strings.Repeat("[", 90) + strings.Repeat("]", 90), `"` + strings.Repeat("x", 100_000) + `"`, `[` + strings.Repeat(`0,`, 20_000) + `0]`,
}

// jsonRefused are texts that are no JSON, or JSON about which parsers disagree.
var jsonRefused = []string{
	``, ` `, `nul`, `nulll`, `True`, `NULL`, `undefined`, `NaN`, `Infinity`, `-Infinity`, `-`, `+1`, `01`, `-01`, `.5`, `5.`, `1e`, `1e+`, `0x10`, `1_000`, `1,000`, `--1`, `1 2`, `１`,
	`"`, `"a`, `a"`, `'a'`, "\"\n\"", "\"\t\"", "\"\x00\"", "\"\x1f\"", `"\x41"`, `"\a"`, `"\u12"`, `"\u123g"`, `"\U0041"`, `"\`, `"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `"\ud800x"`, `"\udc00\ud800"`,
	"\"\xff\"", "\"\xc0\xaf\"", "\"\xe0\x80\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"", "\"\x80\"", "\xef\xbb\xbf1", "1\x00", "\x00", "1\x0c", "1\xc2\xa0", "\u20281",
	`[`, `]`, `[1`, `1]`, `[1,]`, `[,1]`, `[1,,2]`, `[1 2]`, `[1;2]`, `[1:2]`, `(1)`, `[1}`, `{"a":1]`, `[]]`, `[[]`, `[1]x`, `[] []`, `[1]// a`, `/**/[1]`, `[1,/*a*/2]`, `#`,
	`{`, `}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,"a":1}`, `{:1}`, `{a:1}`, `{'a':1}`, `{1:1}`, `{null:1}`, `{"a" 1}`, `{"a"=1}`, `{"a":1 "b":2}`, `{"a":1,,"b":2}`, `{"a":1}{}`, `{"a":1}}`, `{"a":1;"b":2}`, `{["a"]:1}`,
	`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"b":{"a":1,"a":1}}`, `[{"":1,"":1}]`, strings.Repeat("[", 200) + strings.Repeat("]", 200), strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 1000),
}

// TestJSONIsTakenOrRefusedAsAWhole puts each text in an event's data, which is passed on as it stands.
func TestJSONIsTakenOrRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	a := newAPI(t, temporaltest.New(t), nil)
	_, key := a.bot()
	refused := []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge} // too large for this door
	for _, text := range jsonTaken {
		got := a.do("POST", eventsPath, serviceToken, `{"event":"post.created","data":{"x":`+text+`}}`)
		require.Equal(t, http.StatusAccepted, got.status, "%.80q: %s", text, got.body)
	}
	for _, text := range jsonRefused {
		got := a.do("POST", eventsPath, serviceToken, `{"event":"post.created","data":{"x":`+text+`}}`)
		require.Equal(t, http.StatusBadRequest, got.status, "%.80q: %s", text, got.body)
		if text != "" && strings.Trim(text, " ") != "" && !strings.HasPrefix(text, "{") {
			got = a.do("POST", webhooksPath, key, text)
			require.Contains(t, refused, got.status, "%.80q: %s", text, got.body)
		}
	}
	for _, text := range jsonTaken { // no object, or one of unknown fields
		if slices.Contains([]string{`{}`, `{ }`}, text) {
			continue
		}
		got := a.do("POST", webhooksPath, key, text)
		require.Contains(t, refused, got.status, "%.80q: %s", text, got.body)
	}
}

// naughty are strings that have broken programs: of this project's own making.
var naughty = []string{
	"", " ", "\t", "\n", "\r\n", "\v\f", "\u0085", "\u00a0", "\u1680", "\u2028", "\u2029", "\u200b", "\u200d", "\u2060", "\u3000", "\ufeff", "\u00ad", "\u180e",
	"\x01", "\x1b[31mred\x1b[0m", "\x7f", "\a", "\u0080", "\u009b", "a\x00b", "\x00", "\u202eabc", "\u2066abc\u2069", "\u061c", "\ufff9", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\U000e0001",
	"null", "NULL", "nil", "None", "undefined", "true", "false", "NaN", "Infinity", "0", "-0", "-1", "1e309", "0x0", "00", "1/0", "9223372036854775808", "123456789012345678901234567890", "1,000", "٣", "½", "１",
	"../../etc/passwd", "..\\..\\", "/", "//", ".", "..", "%00", "%2e%2e%2f", "%", "%zz", "a%20b", "?", "#", "&", "a&b=c", "a;b", "a=b", "a+b", "~", "*", "CON", "C:\\", "file:///etc/passwd", "javascript:alert(1)", "data:text/html,x",
	"'", "''", "\"", "`", "\\", "\\\\", "';DROP TABLE webhooks;--", "' OR '1'='1", "1;SELECT pg_sleep(9)", "$1", "$$", "E'\\x00'", "{}", "[]", "{{7*7}}", "${7*7}", "#{7*7}", "<%= 7 %>", "%s%n%d", "{0}", "$(id)", "`id`", "|id", "&&id", "() { :;}; x",
	"<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "]]>", "<!--", "&lt;", "&#0;", "<?xml version=\"1.0\"?>", "*)(uid=*", "\r\nSet-Cookie: a=b", "\r\n\r\nHTTP/1.1 200 OK", "=cmd|'/c calc'!A1", "@SUM(1)",
	"ÅÄÖ", "пароль", "中文", "日本語", "한국어", "עברית", "العربية", "ไทย", "हिन्दी", "ß", "ﬃ", "ǆ", "İ", "ı", "K", "ſ", "Ω", "𝒜", "𐍈", "🏳️‍🌈", "👩‍👩‍👧‍👦", "🇩🇪", "é", "e\u0301", "Z̵̡̛a̶l̷g̸o̴", "\u0300", strings.Repeat("\u0301", 50),
	"test", "post.created", "POST.CREATED", "post.created ", "post.created\x00", "post\u3002created", "__proto__", "constructor", "hasOwnProperty", "toString", "whsec_", "whsec_====", "whsec_AAAA\n", "WHSEC_AAAA", "bot_", "Bearer x",
	"localhost", "127.0.0.1", "0", "::1", "http://", "https://", "https:///", "https://a", "https://.", "https://..", "https://a..b", "https://%31", "https://a b", "https://a\tb", "https://[", "https://[]", "https://a:b", "https://a:99999", "https://a@b", "https://a\\b", "//example.com", "https:example.com", "HTTPS://EXAMPLE.COM",
	strings.Repeat("a", 128), strings.Repeat("a", 129), strings.Repeat("é", 128), strings.Repeat("a", 256), strings.Repeat("a", 257), strings.Repeat("a", 2049), strings.Repeat("\\", 300), strings.Repeat("😀", 1000), strings.Repeat("a", 60_000),
	"24h", "-1h", "1d", "9999999999h", "1ns", "2025-03-20T10:30:00Z", "2025-03-20", "0000-00-00T00:00:00Z", "9999-12-31T23:59:60Z", "10000-01-01T00:00:00Z", "2025-02-30T00:00:00Z", "2025-03-20T10:30:00", "2025-03-20t10:30:00z", "2025-03-20T10:30:00+99:99", "now", "infinity", "-infinity", "epoch",
}

// naughtyAt are the strings for the n-th of many doors: one in eight, each time others. With MATHUB_SOAK=1, all.
func naughtyAt(n int) (some []string) {
	if os.Getenv("MATHUB_SOAK") != "" {
		return naughty
	}
	for i := n % 8; i < len(naughty); i += 8 {
		some = append(some, naughty[i])
	}
	return some
}

// TestNaughtyStringsInEveryField: whatever is put where a string goes, the answer is one of the contract's, never a
// fault of ours, and what is taken is kept as it was.
func TestNaughtyStringsInEveryField(t *testing.T) {
	t.Parallel()
	a := newAPI(t, temporaltest.New(t), nil)
	_, key := a.bot()
	id := a.hook(key)
	hook := webhooksPath + "/" + id
	bots, keys := "/api/internal/v1/bots", "/api/internal/v1/bots/bot/keys"
	doors := []struct{ method, path, token, body string }{ // %s: the string, in JSON; in a path: percent-encoded
		{"POST", webhooksPath, key, `{"url":%s,"events":["mention"]}`},
		{"POST", webhooksPath, key, `{"url":"https://example.com/","events":[%s]}`},
		{"POST", webhooksPath, key, `{"url":"https://example.com/","events":%s}`},
		{"POST", webhooksPath, key, `{"url":"https://example.com/","events":["mention"],"secret":%s}`},
		{"POST", webhooksPath, key, `{"url":"https://example.com/","events":["mention"],%s:1}`},
		{"POST", webhooksPath, key, `%s`},
		{"PATCH", hook, key, `{"url":%s}`},
		{"PATCH", hook, key, `{"events":["mention",%s]}`},
		{"PATCH", hook, key, `{"secret":%s}`},
		{"PATCH", hook, key, `{"secret":"x","secretOverlap":%s}`},
		{"PATCH", hook, key, `{"isActive":%s}`},
		{"POST", hook + "/recover", key, `{"since":%s}`},
		{"POST", hook + "/recover", key, `{"until":%s}`},
		{"POST", bots, serviceToken, `{"id":%s,"name":"x"}`},
		{"POST", bots, serviceToken, `{"name":%s}`},
		{"POST", eventsPath, serviceToken, `{"event":%s,"data":{}}`},
		{"POST", eventsPath, serviceToken, `{"event":"post.created","data":{"x":%s}}`},
		{"POST", eventsPath, serviceToken, `{"event":"post.created","data":{%s:1}}`},
		{"POST", eventsPath, serviceToken, `{"event":"post.created","data":%s}`},
		{"POST", eventsPath, serviceToken, `{"id":%s,"event":"post.created","data":{}}`},
		{"POST", eventsPath, serviceToken, `{"timestamp":%s,"event":"post.created","data":{}}`},
		{"POST", eventsPath, serviceToken, `{"event":"mention","data":{},"botIds":[%s]}`},
		{"GET", webhooksPath + "/%s", key, ""},
		{"PATCH", webhooksPath + "/%s", key, `{"isActive":true}`},
		{"DELETE", webhooksPath + "/%s", key, ""},
		{"GET", webhooksPath + "/%s/deliveries", key, ""},
		{"POST", hook + "/deliveries/%s/redeliver", key, ""},
		{"POST", bots + "/%s/keys", serviceToken, ""},
		{"GET", bots + "/%s/keys", serviceToken, ""},
		{"DELETE", keys + "/%s", serviceToken, ""},
		{"GET", "/%s", "", ""},
		{"GET", "/openapi.json?%s", "", ""},
	}
	for n, door := range doors {
		t.Run(door.method+" "+strings.ReplaceAll(door.path, id, "id")+" "+door.body, func(t *testing.T) {
			t.Parallel()
			at := *a
			at.t = t
			for _, s := range naughtyAt(n) {
				encoded, err := json.Marshal(s)
				require.NoError(t, err)
				path, body := strings.ReplaceAll(door.path, "%s", url.PathEscape(s)), any(nil)
				if door.body != "" {
					body = strings.ReplaceAll(door.body, "%s", string(encoded))
				}
				got := at.do(door.method, path, door.token, body)
				if got.status == http.StatusServiceUnavailable && door.path == eventsPath {
					require.NotEmpty(t, got.header.Get("Retry-After"), "%.80q: %s", s, got.body) // the machine is busy
					continue
				}
				require.Less(t, got.status, 500, "%.80q: %s", s, got.body)
				require.NotContains(t, string(got.body), "goroutine", "a stack trace")
				require.NotContains(t, string(got.body), "SQLSTATE")
				if got.status >= 300 {
					continue
				}
				switch door.body {
				case `{"name":%s}`:
					var bot struct{ Name string }
					got.into(t, &bot)
					require.Equal(t, s, bot.Name)
				case `{"secret":%s}`:
					var sealed []byte
					require.NoError(t, at.pool.QueryRow(t.Context(), "SELECT secret FROM webhooks WHERE id = $1", id).Scan(&sealed))
					require.NoError(t, webhook.ValidateSecret(s))
				}
			}
		})
	}
	t.Run("headers", func(t *testing.T) {
		t.Parallel()
		at := *a
		at.t = t
		for n, header := range []string{"Authorization", "Content-Type", "X-Request-Id", "X-Forwarded-For", "Accept", "Idempotency-Key"} {
			for _, s := range naughtyAt(n) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at.url+webhooksPath, strings.NewReader(`{}`))
				require.NoError(t, err)
				req.Header.Set("Authorization", "Bearer "+key)
				req.Header.Set("Content-Type", "application/json")
				value := strings.Map(func(c rune) rune { // net/http sends no others
					if c < ' ' && c != '\t' || c == 0x7f {
						return -1
					}
					return c
				}, s)
				req.Header.Set(header, fmt.Sprintf("%.8000s", value))
				got := at.send(req)
				require.Less(t, got.status, 500, "%s: %.80q: %s", header, s, got.body)
			}
		}
	})
}
