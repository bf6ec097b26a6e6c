package history

import (
	"cmp"
	"encoding/base64"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mathub/webhooks/webhook"
)

// The history does not keep what a reader of the database could misuse: signatures, which together with the payload reveal a
// weak secret, and credentials for the receiver.

// hidden takes the place of what is not kept.
const hidden = "***"

// minHidden is from how many bytes on a part of a webhook's URL may be a token. A shorter one is guessed anyway.
const minHidden = 6

// usualTexts is how many texts are looked for one after the other.
const usualTexts = 64

// signatureHeaders are the request's headers that are not kept.
var signatureHeaders = []string{"X-Mathub-Signature", "Webhook-Signature"}

// credentialNames are parts of the names of response headers that are not kept.
var credentialNames = []string{"cookie", "authorization", "token", "secret", "api-key", "apikey", "session", "signature", "password"}

func holdsCredential(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(credentialNames, func(part string) bool { return strings.Contains(name, part) })
}

// signaturesOf are those of a request, without what stands before them.
func signaturesOf(request http.Header) (signatures []string) {
	for _, name := range signatureHeaders {
		for _, value := range request[name] {
			for entry := range strings.FieldsSeq(value) {
				signatures = append(signatures, entry[strings.IndexByte(entry, ',')+1:])
			}
		}
	}
	return signatures
}

// tokensOf are the parts of a URL's path and query that may be tokens, in the forms in which an answer may repeat them.
func tokensOf(rawURL string) (tokens []string) {
	add := func(form string) {
		tokens = append(tokens, form)
		for _, text := range []string{url.QueryEscape(form), url.PathEscape(form)} {
			if text != form {
				tokens = append(tokens, text)
			}
		}
	}
	_, rest, _ := strings.Cut(rawURL, "://")
	_, rest, _ = strings.Cut(rest, "/")
	for part := range strings.FieldsFuncSeq(rest, func(c rune) bool { return strings.ContainsRune("/?&=", c) }) {
		if len(part) < minHidden {
			continue
		}
		add(part)
		if strings.ContainsAny(part, "%+") {
			for _, decode := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
				if plain, err := decode(part); err == nil && plain != part {
					add(plain)
				}
			}
		}
	}
	return tokens
}

// hide replaces texts in each of values in one pass over it: a webhook's owner chooses how many parts its URL has, and how
// long the answers are. Of two texts that begin at one place, the longer is taken, so that nothing of it is left.
func hide(values, texts []string, mask func(text string) string) {
	slices.SortFunc(texts, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	texts = slices.Compact(texts)
	var pairs []string
	for _, text := range texts {
		// Few texts are looked for sooner than a replacer is made, and an answer usually repeats none.
		if len(texts) > usualTexts || slices.ContainsFunc(values, func(value string) bool { return strings.Contains(value, text) }) {
			pairs = append(pairs, text, mask(text))
		}
	}
	if len(pairs) == 0 {
		return
	}
	replacer := strings.NewReplacer(pairs...)
	for i, value := range values {
		values[i] = replacer.Replace(value)
	}
}

// Sent is a request, and what of it the history must not keep.
type Sent struct {
	Header  http.Header
	URL     string
	Secrets []string
	Custom  webhook.CustomHeaders
}

// HideSecrets returns a response's body without what a receiver may repeat in it: the signatures of its request, the tokens
// of its URL, its own secrets, and the values of the webhook's own headers. The body's length stays. A short body holds none
// of them, and costs nothing.
func HideSecrets(body []byte, sent Sent) []byte {
	if len(body) < minHidden {
		return body
	}
	values := []string{string(body)}
	texts := sent.hidden(values)
	hide(values, texts, func(text string) string { return strings.Repeat("*", len(text)) })
	return []byte(hideBegun(values[0], texts))
}

// hideBegun masks the beginning of a text at the body's end: of a long answer only its beginning is read.
func hideBegun(body string, texts []string) string {
	for _, text := range texts {
		for at := max(0, len(body)-len(text)+1); at <= len(body)-minHidden; at++ {
			next := strings.Index(body[at:], text[:min(len(text), minHidden)])
			if next < 0 {
				break
			}
			if at += next; strings.HasPrefix(text, body[at:]) {
				return body[:at] + strings.Repeat("*", len(body)-at)
			}
		}
	}
	return body
}

// jsonEscapes is what writers of JSON escape beside \ and ": PHP; Go and Rails; .NET.
var jsonEscapes = []*strings.Replacer{
	strings.NewReplacer("/", `\/`),
	strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`),
	strings.NewReplacer(`\"`, `\u0022`, "'", `\u0027`, "+", `\u002B`, "<", `\u003C`, ">", `\u003E`, "&", `\u0026`),
}

// spellings are a text as a URL, JSON and HTML spell it.
func spellings(text string) []string {
	inJSON := strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), `"`, `\"`)
	all := []string{url.QueryEscape(text), url.PathEscape(text), inJSON, html.EscapeString(text)}
	for _, escapes := range jsonEscapes {
		all = append(all, escapes.Replace(inJSON))
	}
	return slices.DeleteFunc(all, func(form string) bool { return form == text })
}

// hidden are the texts that an answer must not show. They are spelled in other ways only where one of its values may be.
func (s Sent) hidden(values []string) []string {
	spelled := slices.ContainsFunc(values, func(value string) bool { return strings.ContainsAny(value, `%\&+`) })
	texts := tokensOf(s.URL)
	add := func(plain ...string) {
		for _, text := range plain {
			if len(text) < minHidden {
				continue
			}
			if texts = append(texts, text); spelled {
				texts = append(texts, spellings(text)...)
			}
		}
	}
	add(signaturesOf(s.Header)...)
	for _, secret := range s.Secrets {
		add(secret, strings.TrimPrefix(secret, "whsec_"))
	}
	for _, value := range s.Custom {
		scheme, credential, _ := strings.Cut(value, " ") // as after "Bearer "
		add(value, credential)
		if pair, err := base64.StdEncoding.DecodeString(credential); err == nil && strings.EqualFold(scheme, "Basic") {
			_, password, _ := strings.Cut(string(pair), ":")
			add(string(pair), password)
		}
	}
	return texts
}
