package portal

import (
	"fmt"
	"strings"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/subscriptions"
)

// advice is what a kind of failure means, and what to do about it.
type advice struct{ what, do string }

// ofErrors are the errors of deliveries that say nothing of a status. A key that ends with a colon is of all that begin so.
var ofErrors = map[string]advice{
	"timeout":                      {"the receiver did not answer within 5 seconds", "Answer first, and do the work afterwards: take the event into a queue of your own and answer 204."},
	"connect timeout":              {"no connection came about within 5 seconds", "Check that the host is up, and that its firewall lets our addresses in."},
	"connection refused":           {"nothing listens at the receiver's port", "Start the receiver, and check the URL's port."},
	"connection reset":             {"the receiver, or something before it, broke the connection off", "Look at the receiver's log for a crash, and at the proxy before it."},
	"connection closed":            {"the receiver closed the connection before it answered", "Look at the receiver's log for a crash or a limit of time."},
	"host unreachable":             {"there is no way to the receiver's address", "Check the address that the host's name resolves to."},
	"network unreachable":          {"there is no way to the receiver's network", "Check the address that the host's name resolves to."},
	"refused by the egress proxy":  {"our proxy does not let us connect to the receiver's address or port", "Use port 443, or ask us to allow yours."},
	"dns:":                         {"the host's name could not be looked up", "Check the name in the URL, and its entries in DNS."},
	"blocked: address not allowed": {"the host's name leads to an address that is not public", "Use a host whose addresses are public."},
	"response headers too large":   {"the response had too many headers", "Send fewer or shorter headers."},
	"invalid response":             {"the answer is not HTTP", "Check that an HTTP server listens at the URL's port."},
	"tls:":                         {"no TLS connection came about", "See the error: renew the certificate, install its intermediate certificates too, or serve one for the URL's host."},
	"tls: certificate expired":     {"the receiver's certificate has expired", "Renew it, and look at the receiver's clock."},
	"tls: unknown authority":       {"nobody that we trust has signed the receiver's certificate", "Install the intermediate certificates too. Self-signed ones are not accepted."},
	"tls: wrong host":              {"the receiver's certificate is for another host", "Get a certificate for the URL's host, or change the URL."},
	"the answer is not the nonce":  {"the endpoint answered, but not with the nonce", "Answer webhook.verify events with the data's nonce, as text or as nonce in JSON."},
}

// ofStatus says what a status means.
func ofStatus(code int) advice {
	switch {
	case code >= 300 && code < 400:
		return advice{"the receiver redirects, which is not followed", "Change the webhook's URL to where it leads."}
	case code == 401 || code == 403:
		return advice{"the receiver refused us", "Check how it verifies the signature: with this webhook's secret, over the raw body."}
	case code == 404 || code == 405:
		return advice{"the receiver knows no such path for POST", "Check the path of the webhook's URL, and the receiver's routes."}
	case code == 410:
		return advice{"the receiver says that it is gone", "Delete the webhook if nobody wants its events any more."}
	case code == 413:
		return advice{"the body was too large for the receiver", "Raise its limit to at least 256 KiB."}
	case code == 429:
		return advice{"the receiver wants fewer requests", "It is tried again later, or when its Retry-After says."}
	case code >= 500:
		return advice{"the receiver answered with an error of its own", "Look at its log at the time of this attempt."}
	}
	return advice{"the receiver did not take it", "Answer with a 2xx when the event was taken."}
}

// adviceOf is for a failed delivery, by its error and status; 0: no response came.
func adviceOf(text string, status int) advice {
	if known, ok := ofErrors[text]; ok {
		return known
	}
	if status != 0 {
		return ofStatus(status)
	}
	kind, _, _ := strings.Cut(text, ":")
	if known, ok := ofErrors[kind+":"]; ok {
		return known
	}
	return advice{"the receiver could not be reached, or not be understood", "See the error, and the receiver's log."}
}

// explain says in a sentence what happened, and what to do about it.
func explain(row db.GetDeliveriesRow, next *subscriptions.NextAttempt) (what, do string) {
	if row.Success {
		return fmt.Sprintf("Delivered: the receiver answered %s within %d ms.", statusText(row.StatusCode), row.DurationMs), ""
	}
	text, status := "", 0
	if row.Error != nil {
		text = *row.Error
	}
	if row.StatusCode != nil {
		status = int(*row.StatusCode)
	}
	a := adviceOf(text, status)
	what = "Failed: " + a.what
	if text != "" {
		what += " (" + text + ")"
	}
	switch {
	case next != nil:
		what += fmt.Sprintf(". Attempt %d is planned.", next.Number)
	case row.Trigger == "test" || row.Trigger == "verify":
		what += ". Tests are not attempted again."
	default:
		what += ". No further attempt of this event is planned."
	}
	return what, a.do
}
