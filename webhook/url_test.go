package webhook_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

var loopbackRules = webhook.URLRules{
	Allow:     []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	AllowHTTP: true,
}

func TestURLIsNormalised(t *testing.T) {
	for raw, want := range map[string]string{
		"https://example.com":                         "https://example.com",
		"https://example.com/":                        "https://example.com/",
		"https://example.com?a=b":                     "https://example.com?a=b",
		"https://example.com/hooks/mathub?token=x&y=": "https://example.com/hooks/mathub?token=x&y=",
		"HTTPS://Example.COM/Path?Query":              "https://example.com/Path?Query",
		"https://example.com./x":                      "https://example.com/x",
		"https://example.com:443/":                    "https://example.com/",
		"https://example.com:0443?x":                  "https://example.com?x",
		"https://EXAMPLE.com.:443":                    "https://example.com",
		"https://8.8.8.8:443/":                        "https://8.8.8.8/",
		"https://[2606:4700::1111]:443/":              "https://[2606:4700::1111]/",
		"https://[2606:4700::443]:443/":               "https://[2606:4700::443]/",
		"https://example.com:80/":                     "https://example.com:80/",
		"https://example.com/:443/":                   "https://example.com/:443/",
		"https://example.com:8443/":                   "https://example.com:8443/",
		"https://example.com:/":                       "https://example.com/",
		"https://example.com:08443/":                  "https://example.com:8443/",
		"https://example.com/a%2Fb/../c//d;e=f":       "https://example.com/a%2Fb/../c//d;e=f",
		"https://example.com/a%2Fb/é":                 "https://example.com/a%2Fb/%C3%A9",
		"https://example.com/?q=é😀":                   "https://example.com/?q=%C3%A9%F0%9F%98%80",
		"https://example.com/?q={\"a\":<1>}|^`":       "https://example.com/?q=%7B%22a%22:%3C1%3E%7D%7C%5E%60",
		"https://example.com/?":                       "https://example.com/?",
		"https://example.com/?a=?/:@!$'()*,;=[]~":     "https://example.com/?a=?/:@!$'()*,;=[]~",
		"https://example.com/?q=%zz":                  "https://example.com/?q=%zz",
		"https://example.com/%00%0d%0a":               "https://example.com/%00%0d%0a",
		"https://example.com/@user:pass@":             "https://example.com/@user:pass@",
		"https://example.com?to=a@b":                  "https://example.com?to=a@b",
		"https://a.b.c.d.e.f.example.co.uk/":          "https://a.b.c.d.e.f.example.co.uk/",
		"https://r3---sn-4g5e6nez.example.com/":       "https://r3---sn-4g5e6nez.example.com/",
		"https://my_bot.example.com/":                 "https://my_bot.example.com/",
		"https://123.example.com/":                    "https://123.example.com/",
		"https://1e5.example/":                        "https://1e5.example/",
		"https://localhost.example.com/":              "https://localhost.example.com/",
		"https://notlocal/local.x":                    "", // a single label
		"https://bücher.example/":                     "https://xn--bcher-kva.example/",
		"https://BÜCHER.example/":                     "https://xn--bcher-kva.example/",
		"https://bu\u0308cher.example/":               "https://xn--bcher-kva.example/",
		"https://xn--bcher-kva.example/":              "https://xn--bcher-kva.example/",
		"https://faß.example/":                        "https://xn--fa-hia.example/",
		"https://例え.テスト/":                             "https://xn--r8jz45g.xn--zckzah/",
		"https://пример.испытание/":                   "https://xn--e1afmkfd.xn--80akhbyknj4f/",
		"https://مثال.إختبار/":                        "https://xn--mgbh0fb.xn--kgbechtv/",
		"https://😀.example/":                          "https://xn--e28h.example/",
		"https://8.8.8.8/":                            "https://8.8.8.8/",
		"https://8.8.8.8.:8443/":                      "https://8.8.8.8:8443/",
		"https://134744072/":                          "https://8.8.8.8/",
		"https://0x08080808/":                         "https://8.8.8.8/",
		"https://0X8.0x8.8.010/":                      "https://8.8.8.8/",
		"https://8.526344/":                           "https://8.8.8.8/",
		"https://[2606:4700:4700::1111]/":             "https://[2606:4700:4700::1111]/",
		"https://[2606:4700:4700:0:0:0:0:1111]:8443/": "https://[2606:4700:4700::1111]:8443/",
		"https://[2001:4860:4860::8.8.8.8]/":          "https://[2001:4860:4860::808:808]/",
	} {
		got, err := webhook.URLRules{}.Check(raw)
		if want == "" {
			require.Error(t, err, raw)
			continue
		}
		require.NoError(t, err, raw)
		require.Equal(t, want, got)

		again, err := webhook.URLRules{}.Check(got)
		require.NoError(t, err)
		require.Equal(t, got, again, "a normalised URL stays as it is")
	}
}

func TestURLIsRefused(t *testing.T) {
	for _, c := range []struct{ name, raw, message string }{
		{"empty", "", "empty"},
		{"http", "http://example.com/", "begin with https://"},
		{"ftp", "ftp://example.com/", "absolute URL"},
		{"javascript", "javascript:alert(1)", "absolute URL"},
		{"file", "file:///etc/passwd", "absolute URL"},
		{"gopher", "gopher://example.com/", "absolute URL"},
		{"unix", "unix:///var/run/docker.sock", "absolute URL"},
		{"data", "data:text/plain,x", "absolute URL"},
		{"wss", "wss://example.com/", "absolute URL"},
		{"no scheme", "example.com/hook", "absolute URL"},
		{"scheme only", "https:", "absolute URL"},
		{"no slashes", "https:example.com", "absolute URL"},
		{"one slash", "https:/example.com", "absolute URL"},
		{"relative to the scheme", "//example.com/", "absolute URL"},
		{"path", "/hook", "absolute URL"},
		{"no host", "https://", "must have a host"},
		{"no host but a path", "https:///etc/passwd", "must have a host"},
		{"no host but a query", "https://?x", "must have a host"},
		{"no host but a port", "https://:443/", "must have a host"},
		{"only a dot", "https://./", "host name"},
		{"user", "https://user@example.com/", "user name or password"},
		{"user and password", "https://user:pass@example.com/", "user name or password"},
		{"empty user", "https://@example.com/", "user name or password"},
		{"two at signs", "https://example.com@127.0.0.1@example.com/", ""},
		{"at sign to hide the host", "https://example.com:443@127.0.0.1/", "user name or password"},
		{"fragment", "https://example.com/#x", "fragment"},
		{"empty fragment", "https://example.com/#", "fragment"},
		{"fragment to hide the host", "https://127.0.0.1#@example.com/", "fragment"},
		{"backslash", `https://example.com\@127.0.0.1/`, "backslash"},
		{"backslash in the path", `https://example.com/a\b`, "backslash"},
		{"space", "https://example.com/a b", "spaces"},
		{"leading space", " https://example.com/", "spaces"},
		{"trailing space", "https://example.com/ ", "spaces"},
		{"tab", "https://exam\tple.com/", "control"},
		{"line break", "https://example.com/\r\nX-Injected:1", "control"},
		{"NUL", "https://example.com/\x00", "control"},
		{"delete", "https://example.com/\x7f", "control"},
		{"next line, U+0085", "https://example.com/\u0085", "control"},
		{"no-break space", "https://example.com/\u00a0", "spaces"},
		{"invalid UTF-8", "https://example.com/\xff", "UTF-8"},
		{"bad percent-encoding in the path", "https://example.com/%zz", "absolute URL"},
		{"percent-encoded host", "https://%65xample.com/", ""},
		{"percent-encoded UTF-8 host", "https://%e4%be%8b.example/", "percent-encoding"},
		{"port 0", "https://example.com:0/", "port from 1 to 65535"},
		{"port 65536", "https://example.com:65536/", "port from 1 to 65535"},
		{"port 4294967739, which is 443 in 32 bits", "https://example.com:4294967739/", "port from 1 to 65535"},
		{"negative port", "https://example.com:-1/", ""},
		{"port in words", "https://example.com:https/", ""},
		{"port in full-width digits", "https://example.com:４４３/", ""},
		{"two ports", "https://example.com:443:443/", ""},
		{"SMTP's port", "https://example.com:25/", "another protocol"},
		{"SSH's port", "https://example.com:22/", "another protocol"},
		{"2,049 bytes", "https://example.com/" + strings.Repeat("a", 2029), "2048"},
		{"2,048 bytes that percent-encoding makes more of", "https://example.com/" + strings.Repeat("é", 1014), "2048"},
		{"empty label", "https://example..com/", "host name"},
		{"leading dot", "https://.example.com/", "host name"},
		{"two trailing dots", "https://example.com../", "host name"},
		{"leading hyphen", "https://-example.com/", "host name"},
		{"trailing hyphen", "https://example-.com/", "host name"},
		{"label of 64", "https://" + strings.Repeat("a", 64) + ".com/", "host name"},
		{"name of 254", "https://" + strings.Repeat("a.", 125) + "comm/", "host name"},
		{"exclamation mark", "https://exa!mple.com/", "host name"},
		{"comma", "https://example.com,127.0.0.1/", "name or a valid IP"},
		{"semicolon", "https://example.com;127.0.0.1/", "name or a valid IP"},
		{"star", "https://*.example.com/", "host name"},
		{"braces", "https://{host}.example.com/", ""},
		{"punycode of ASCII", "https://xn--example-.com/", "host name"},
		{"broken punycode", "https://xn--\u0061\u0062\u0063-.com/", "host name"},
		{"punycode of capitals", "https://xn--BCHER-2pa.example/", "host name"},
		{"punycode of full-width digits", "https://xn--8g7ccp.example/", "host name"},
		{"punycode of a zero-width space", "https://xn--ab-g1t.example/", "host name"},
		{"mixed directions", "https://aא.example/", "host name"},
		{"full-width letters", "https://ｅｘａｍｐｌｅ.com/", "variants of ASCII"},
		{"full-width digits", "https://１２７.0.0.1/", "variants of ASCII"},
		{"circled digits", "https://①②⑦.0.0.1/", "variants of ASCII"},
		{"ideographic full stop", "https://example。com/", "variants of ASCII"},
		{"full-width full stop", "https://example．com/", "variants of ASCII"},
		{"half-width full stop", "https://example｡com/", "variants of ASCII"},
		{"Kelvin sign", "https://\u212aelvin.com/", "variants of ASCII"},
		{"long s", "https://ſecure.com/", "variants of ASCII"},
		{"soft hyphen", "https://exam\u00adple.com/", "variants of ASCII"},
		{"zero-width space", "https://exam\u200bple.com/", "variants of ASCII"},
		{"zero-width joiner", "https://exam\u200dple.com/", "host name"},
		{"account of", "https://\u2100.com/", "variants of ASCII"},
		{"full-width at sign", "https://user＠127.0.0.1/", "variants of ASCII"},
		{"full-width slash", "https://127.0.0.1／.example.com/", "variants of ASCII"},
		{"IPv6 without brackets", "https://::1/", ""},
		{"IPv6 with a zone", "https://[fe80::1%25eth0]/", "zone"},
		{"IPv6 with an unencoded zone", "https://[fe80::1%eth0]/", ""},
		{"IPv4 in brackets", "https://[8.8.8.8]/", ""},
		{"name in brackets", "https://[example.com]/", ""},
		{"future address", "https://[v1.fe80::a+en1]/", ""},
		{"unclosed bracket", "https://[::1/", ""},
		{"nested brackets", "https://[[::1]]/", ""},
		{"text after the bracket", "https://[2606:4700::1111]x/", ""},
		{"five parts", "https://8.8.8.8.8/", "name or a valid IP"},
		{"part over 255", "https://256.8.8.8/", "name or a valid IP"},
		{"last part over its bytes", "https://8.8.65536/", "name or a valid IP"},
		{"over 32 bits", "https://4294967296/", "name or a valid IP"},
		{"over 64 bits", "https://18446744073709551617/", "name or a valid IP"},
		{"octal with a nine", "https://8.8.8.09/", "name or a valid IP"},
		{"name that ends in a number", "https://example.1/", "name or a valid IP"},
		{"name that ends in a hexadecimal number", "https://example.0x7f/", "name or a valid IP"},
		{"empty part", "https://8..8.8/", "name or a valid IP"},
		{"localhost", "https://localhost/", "private"},
		{"localhost with a dot", "https://localhost./", "private"},
		{"localhost in capitals", "https://LocalHost:8443/", "private"},
		{"below localhost", "https://a.localhost/", "private"},
		{"localhost.localdomain", "https://localhost.localdomain/", "private"},
		{"mDNS", "https://printer.local/", "private"},
		{"mDNS with a dot", "https://printer.local./", "private"},
		{"internal", "https://metadata.google.internal/", "private"},
		{"internal, in capitals", "https://METADATA.GOOGLE.INTERNAL/", "private"},
		{"for tests", "https://hook.test/", "private"},
		{"invalid", "https://hook.invalid/", ".invalid"},
		{"onion", "https://expyuzz4wqqyqhjn.onion/", ".onion"},
		{"alt", "https://hook.alt./", ".alt"},
		{"in-cluster", "https://kubernetes.default.svc.cluster.local/", "private"},
		{"home network", "https://router.home.arpa/", "private"},
		{"lan", "https://router.lan/", "private"},
		{"single label", "https://kubernetes/", "private"},
		{"top level", "https://com/", "private"},
		{"single label IDN", "https://bücher/", "private"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := webhook.URLRules{}.Check(c.raw)
			require.Empty(t, got)
			require.Equal(t, []string{"url"}, fieldsOf(t, err))
			require.Contains(t, err.Error(), c.message)
			for _, secret := range []string{"X-Injected", "pass", "etc", "127.0.0.1", "8.8"} {
				require.NotContains(t, strings.ReplaceAll(err.Error(), "password", ""), secret, "the URL is not quoted")
			}
		})
	}
	_, err := webhook.URLRules{}.Check("https://example.com/" + strings.Repeat("a", 2028))
	require.NoError(t, err, "2,048 bytes")
	_, err = webhook.URLRules{}.Check("https://" + strings.Repeat("a", 63) + ".com/")
	require.NoError(t, err, "a label of 63")
	_, err = webhook.URLRules{}.Check("https://" + strings.Repeat("a.", 125) + "com/")
	require.NoError(t, err, "a name of 253")
}

// TestGoodURLsAreTaken as they stand: those of real hosts, on any port, with all that RFC 3986 allows after them.
func TestGoodURLsAreTaken(t *testing.T) {
	hosts := []string{
		"example.com", "hooks.example.com", "a.b.c.d.e.example.co.uk", "example.com.", "my-bot.example.dev", "xn--bcher-kva.example.com", "123.example.com",
		"1e100.net", "a.museum", "abc123.lambda-url.eu-central-1.on.aws", "bot.herokuapp.com", "x.run.app", "8.8.8.8", "1.1.1.1:8443", "[2606:4700:4700::1111]",
		"[2001:4860:4860::8888]:444", "example.com:443", "example.com:8080", "example.com:65535", "local.example.com", "internal.example.com", "localhost.example.com",
		strings.Repeat("a", 63) + ".example.com", strings.Repeat("a.", 115) + "example.com",
	}
	paths := []string{
		"", "/", "/hook", "/a/b/c/", "/?", "/?a=b&c=d", "/hook?token=a%20b", "/~user/hook;v=1", "/%7Buser%7D", "/a//b", "/-._~!$&'()*+,;=:@", "?x=/?",
	}
	cases := 0
	for _, host := range hosts {
		for _, path := range paths {
			raw := "https://" + host + path
			got, err := webhook.URLRules{}.Check(raw)
			require.NoError(t, err, raw)
			again, err := webhook.URLRules{}.Check(got)
			require.NoError(t, err, got)
			require.Equal(t, got, again)
			if !strings.HasSuffix(host, ".") && !strings.HasSuffix(host, ":443") { // what is said twice is left away
				require.Equal(t, raw, got)
			}
			cases++
		}
	}
	require.Greater(t, cases, 200)
}

func TestURLRulesWithLoopbackAllowed(t *testing.T) {
	for raw, want := range map[string]string{
		"http://127.0.0.1:3000/x":        "http://127.0.0.1:3000/x",
		"http://localhost:3000/x":        "http://localhost:3000/x",
		"http://LOCALHOST.:3000/x":       "http://localhost:3000/x",
		"http://hook.localhost:3000/":    "http://hook.localhost:3000/",
		"http://[::1]:3000/x":            "http://[::1]:3000/x",
		"http://127.1:3000/":             "http://127.0.0.1:3000/",
		"http://2130706433:3000/":        "http://127.0.0.1:3000/",
		"http://[::ffff:127.0.0.1]:3000": "http://127.0.0.1:3000",
		"https://localhost/":             "https://localhost/",
		"http://example.com/":            "http://example.com/",
		"http://127.0.0.77:80/":          "http://127.0.0.77/",
		"http://localhost:80?x":          "http://localhost?x",
		"http://[::1]:80/":               "http://[::1]/",
		"http://127.0.0.1:443/":          "http://127.0.0.1:443/",
		"http://hook.test/":              "http://hook.test/",
		"https://example.com/":           "https://example.com/",
	} {
		got, err := loopbackRules.Check(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, got)
	}
	for _, raw := range []string{
		"http://10.0.0.1/", "http://169.254.169.254/", "http://0.0.0.0:3000/", "http://[::]:3000/", "http://192.168.1.1/", "http://intranet/",
		"http://printer.local/", "http://metadata.google.internal/", "http://a.onion/", "http://b.invalid/", "ftp://localhost/", "http://[64:ff9b::7f00:1]/", "http://user@localhost/",
	} {
		_, err := loopbackRules.Check(raw)
		require.Error(t, err, raw)
	}
}

func TestURLRulesInsideANetwork(t *testing.T) {
	inside := webhook.URLRules{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for _, raw := range []string{"https://10.1.2.3/", "https://receiver/", "https://hooks.corp/", "https://a.svc.cluster.local/"} {
		_, err := inside.Check(raw)
		require.NoError(t, err, raw)
	}
	for _, raw := range []string{"http://10.1.2.3/", "https://localhost/", "https://127.0.0.1/", "https://192.168.1.1/", "https://169.254.169.254/"} {
		_, err := inside.Check(raw)
		require.Error(t, err, raw)
	}
	everything := webhook.URLRules{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	for _, raw := range []string{"https://10.1.2.3/", "https://localhost/", "https://receiver/", "https://[::1]/"} {
		_, err := everything.Check(raw)
		require.NoError(t, err, raw)
	}
	require.Error(t, func() error {
		_, err := webhook.URLRules{Allow: loopbackRules.Allow}.Check("http://localhost/")
		return err
	}(), "http is allowed apart")
}
