package bots

import (
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// NotifyChange updates a bot's notification URL and secret.
type NotifyChange struct {
	// SetURL says that URL takes the place of the present one; a nil URL: no notifications any more.
	SetURL bool
	URL    *string
	// Secret signs from now on. When it is nil the present one stays; where there is none, one is made.
	Secret *string
}

// check completes the URL's form and names what is wrong with it or with the secret.
func (n *NotifyChange) check(rules webhook.URLRules, faults *problem.Faults) {
	if n.URL != nil {
		url, err := rules.Check(*n.URL)
		faults.CheckAs("notifyUrl", err)
		n.URL = &url
	}
	switch {
	case n.Secret == nil:
	case *n.Secret == "": // unlike a webhook's, it cannot be removed: notices are always signed
		faults.Add("notifySecret", "must not be empty; leave it out")
	default:
		faults.CheckAs("notifySecret", webhook.ValidateSecret(*n.Secret))
		if n.SetURL && n.URL == nil {
			faults.Add("notifySecret", "must not be set when notifyUrl is null, which removes it")
		}
	}
}

// of is the change applied to a bot. made is a secret that had to be made.
func (n *NotifyChange) of(bot db.Bot, keyset *db.Keyset) (changed db.Bot, made *string, err error) {
	if n.SetURL {
		if bot.NotifyURL, err = resealed(bot.ID, bot.NotifyURL, n.URL, keyset.OpenNotifyURL, keyset.SealNotifyURL); err != nil {
			return bot, nil, err
		}
	}
	if bot.NotifyURL == nil {
		bot.NotifySecret = nil
		if n.Secret != nil {
			return bot, nil, webhook.Invalid("notifySecret", "requires a notifyUrl, which the bot does not have")
		}
		return bot, nil, nil
	}
	secret := n.Secret
	if secret == nil && bot.NotifySecret == nil {
		text := webhook.NewSecret()
		secret, made = &text, &text
	}
	if secret == nil && n.SetURL {
		_, err = keyset.OpenNotify(bot.ID, bot.NotifySecret) // or nothing would ever be sent to the new URL
	}
	if secret != nil {
		bot.NotifySecret, err = resealed(bot.ID, bot.NotifySecret, secret, keyset.OpenNotify, keyset.SealNotify)
	}
	return bot, made, err
}

// resealed is what is asked for, sealed; what is equal stays as it is, as nothing is replaced.
func resealed(botID string, present []byte, asked *string, open func(string, []byte) (string, error), seal func(string, string) ([]byte, error)) ([]byte, error) {
	if asked == nil {
		return nil, nil
	}
	if present != nil {
		if text, err := open(botID, present); err == nil && text == *asked {
			return present, nil
		}
	}
	return seal(botID, *asked)
}
