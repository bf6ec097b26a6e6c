package egress

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Classes are all that Response.Class can answer of a failure: few, as metrics are kept for each.
var Classes = []string{"blocked", "connect_timeout", "connection", "dns", "http_3xx", "http_4xx", "http_429", "http_5xx", "http_other", "other", "response", "timeout", "tls", "unreachable"}

// invalidResponse is the error of what is no HTTP response.
const invalidResponse = "invalid response"

var classOf = map[string]string{
	"timeout": "timeout", connectTimeout: "connect_timeout", connectionRefused: "connection", "connection reset": "connection", "connection closed": "connection",
	hostUnreachable: "unreachable", networkUnreachable: "unreachable", proxyRefuses: "unreachable",
	"response headers too large": "response", invalidResponse: "response",
}

// Class is the kind of failure, for counting: one of Classes, or "" on success.
func (r Response) Class() string {
	kind, _, _ := strings.Cut(r.Error, ":")
	switch {
	case r.Error == "":
		return ""
	case strings.HasPrefix(r.Error, "HTTP "):
		return statusClass(r.StatusCode)
	case kind == "blocked", kind == "dns", kind == "tls":
		return kind
	case classOf[r.Error] != "":
		return classOf[r.Error]
	}
	return "other"
}

// ClassOf is the class of a failure's error as the history shows it; "": no failure has such an error.
func ClassOf(text string) string {
	r := Response{Error: text}
	if status, ok := strings.CutPrefix(text, "HTTP "); ok {
		var err error
		if r.StatusCode, err = strconv.Atoi(status); err != nil || len(status) != 3 || r.StatusCode < 100 || r.StatusCode/100 == 2 {
			return ""
		}
	}
	if class := r.Class(); class != "other" {
		return class
	}
	return ""
}

// CouldBeOurs reports whether a failure of the class can come of our own side: of its resolver, network, clock, authorities, or
// settings, such as a MATHUB_EGRESS_ALLOW that was lost. What a receiver alone can do is none: answer with any status, refuse or reset a connection, or hang on one.
func CouldBeOurs(class string) bool {
	switch class {
	case "blocked", "dns", "unreachable", "connect_timeout", "tls":
		return true
	}
	return false
}

// refusals are the statuses by which receivers say that they do not take a signature or its time; 500 those whose check throws.
var refusals = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusInternalServerError}

// CouldComeOfClock reports whether a failure may be about the time, of which our own clock may have a wrong idea: that of a
// signature, or the one that the receiver's certificate was held against.
func (r Response) CouldComeOfClock(signed bool) bool {
	return signed && slices.Contains(refusals, r.StatusCode) || r.Error == tlsExpired || r.Error == tlsNotYetValid
}

// couldComeOfPause reports whether this process may have caused the failure by not running: its own timeout ended although the
// answer may have been there, or the receiver's did, which then closed the connection, left the answer or handshake unfinished,
// or answered 408. Any other status, and any immediate refusal, is the receiver's.
func (r Response) couldComeOfPause() bool {
	switch r.Error {
	case "", connectionRefused, noSuchHost:
		return false
	}
	if strings.HasPrefix(r.Error, "HTTP ") {
		return r.StatusCode == http.StatusRequestTimeout
	}
	return r.Class() != "blocked"
}

// brokeOff reports whether the connection ended, or stood still, before the answer was whole: what a proxy between may have done.
func (r Response) brokeOff() bool {
	class := classOf[r.Error]
	return class == "timeout" || class == "connection" && r.Error != connectionRefused
}

func statusClass(code int) string {
	switch {
	case code == 429:
		return "http_429"
	case code >= 300 && code < 400:
		return "http_3xx"
	case code >= 400 && code < 500:
		return "http_4xx"
	case code >= 500 && code < 600:
		return "http_5xx"
	}
	return "http_other"
}
