package amqp

import (
	"context"
	"time"
)

// renewing keeps the password of a session from expiring, until the session ends.
func (s *session) renewing() {
	cfg := &s.link.d.cfg
	auth, ok := s.conn.Config.SASL[0].(*plain)
	if !ok || cfg.Credentials == nil || auth.Expires.IsZero() {
		return
	}
	pause := backoff{min: cfg.BackoffMin, max: cfg.BackoffMax}
	wait := renewAfter(auth.Expires)
	for sleep(s.ctx, wait) {
		cred, err := s.renew()
		switch {
		case err != nil && s.link.ctx.Err() != nil:
			return
		case err != nil:
			wait = pause.wait()
			cfg.Logger.Warn("motif: the password that expires cannot be renewed", "link", s.link.role, "error", err, "next_try", wait)
		case cred.Expires.IsZero():
			return
		default:
			pause.reset()
			wait = renewAfter(cred.Expires)
		}
	}
}

// renew tells the broker the new password.
func (s *session) renew() (cred Credentials, err error) {
	cfg := &s.link.d.cfg
	ctx, cancel := context.WithTimeout(s.ctx, cfg.DialTimeout)
	defer cancel()
	if cred, err = cfg.Credentials(ctx); err != nil {
		return cred, err
	}
	_, err = await(ctx, s.link.d, func() (struct{}, error) {
		return struct{}{}, s.conn.UpdateSecret(cred.Password.Reveal(), "the last one expires")
	}, func(struct{}) {})
	return cred, err
}

// renewAfter leaves a fifth of the time for what may go wrong.
func renewAfter(expires time.Time) time.Duration {
	return max(time.Until(expires)*4/5, time.Second)
}
