package history

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// What the history does not keep of an exchange, as whoever reads the database could use it: signatures, from which a weak
// secret can be found beside the payload, and what the receiver takes for a proof of who calls.

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

// tokensOf are the parts of a URL's path and query that may be tokens, in the forms in which an answer may repeat them.
func tokensOf(rawURL string) (tokens []string) {
	_, rest, _ := strings.Cut(rawURL, "://")
	_, rest, _ = strings.Cut(rest, "/")
	for part := range strings.FieldsFuncSeq(rest, func(c rune) bool { return strings.ContainsRune("/?&=", c) }) {
		if len(part) < minHidden {
			continue
		}
		tokens = append(tokens, part)
		if strings.ContainsAny(part, "%+") {
			tokens = append(tokens, url.QueryEscape(part))
			for _, decode := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
				if plain, err := decode(part); err == nil && plain != part {
					tokens = append(tokens, plain)
				}
			}
		}
	}
	return tokens
}

func hide(value string, texts []string) string {
	for _, text := range texts {
		if strings.Contains(value, text) {
			value = strings.ReplaceAll(value, text, hidden)
		}
	}
	return value
}

// HideSignatures returns a response's body without the signatures of its request, which a receiver may answer with. Its
// length stays.
func HideSignatures(body []byte, request http.Header) []byte {
	if len(body) == 0 {
		return body
	}
	for _, signature := range signaturesOf(request) {
		if text := []byte(signature); bytes.Contains(body, text) {
			body = bytes.ReplaceAll(body, text, bytes.Repeat([]byte("*"), len(text)))
		}
	}
	return body
}
