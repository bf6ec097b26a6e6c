package history

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// The history does not keep what a reader of the database could misuse: signatures, which together with the payload reveal a
// weak secret, and credentials for the receiver.

// hidden takes the place of what is not kept.
const hidden = "***"

// minHidden is from how many bytes on a part of a webhook's URL may be a token. A shorter one is guessed anyway.
const minHidden = 6

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
				signatures = append(signatures, strings.TrimPrefix(entry, "v1,"))
			}
		}
	}
	return signatures
}

// tokensOf are the parts of a URL's path and query that may be tokens, in the forms in which an answer may repeat them, the
// longest first.
func tokensOf(rawURL string) (tokens []string) {
	add := func(form string) {
		for _, text := range []string{form, url.QueryEscape(form), url.PathEscape(form)} {
			if !slices.Contains(tokens, text) {
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
				if plain, err := decode(part); err == nil {
					add(plain)
				}
			}
		}
	}
	longestFirst(tokens)
	return tokens
}

// longestFirst keeps a text that is part of another from leaving the rest of that.
func longestFirst(texts []string) {
	slices.SortFunc(texts, func(a, b string) int { return len(b) - len(a) })
}

func hide(value string, texts []string) string {
	for _, text := range texts {
		if strings.Contains(value, text) {
			value = strings.ReplaceAll(value, text, hidden)
		}
	}
	return value
}

// HideSecrets returns a response's body without what a receiver may repeat in it: the signatures of its request, its own
// secrets, and the tokens of its URL. The body's length stays. A short body holds none of them, and costs nothing.
func HideSecrets(body []byte, request http.Header, url string, secrets []string) []byte {
	if len(body) < minHidden {
		return body
	}
	texts := append(signaturesOf(request), tokensOf(url)...)
	for _, secret := range secrets {
		for _, text := range []string{secret, strings.TrimPrefix(secret, "whsec_")} {
			if len(text) >= minHidden {
				texts = append(texts, text)
			}
		}
	}
	longestFirst(texts)
	for _, text := range texts {
		if bytes.Contains(body, []byte(text)) {
			body = bytes.ReplaceAll(body, []byte(text), bytes.Repeat([]byte("*"), len(text)))
		}
	}
	return body
}
