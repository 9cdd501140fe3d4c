package conference

import (
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
)

type given = []deed.Event[Attendee]

func TestAttendee(t *testing.T) {
	registered := given{Registered{"a@x.org"}}
	pending := append(registered[:1:1], EmailChangeRequested{"new@x.org", "s1"})
	again := append(pending[:2:2], EmailChangeRequested{"newer@x.org", "s2"})
	gone := append(registered[:1:1], Unregistered{"a@x.org", "ill"})
	deedtest.Run(t, []deedtest.Case[Attendee]{
		{Name: "register", When: Register{" a@x.org "}, Then: registered},
		{Name: "register without an address", When: Register{"  "}, Err: deedtest.ErrInvalid},
		{Name: "register with half an address", When: Register{"nope"}, Err: deedtest.ErrInvalid},
		{Name: "register twice", Given: registered, When: Register{"b@x.org"}, Err: deed.ErrExists},
		{Name: "change is pending", Given: registered, When: ChangeEmail{Email: "  new@x.org "}, By: deed.Stamp{Secret: "s1"}, Then: pending[1:]},
		{Name: "change to nothing", Given: registered, When: ChangeEmail{}, Err: deedtest.ErrInvalid},
		{Name: "change of nobody", When: ChangeEmail{Email: "a@x.org"}, Err: deed.ErrNotFound},
		{Name: "confirm", Given: pending, When: ConfirmEmail{"s1"}, Then: given{EmailConfirmed{"new@x.org", "a@x.org"}}},
		{Name: "confirm with a wrong id", Given: pending, When: ConfirmEmail{"s2"}, Err: ErrWrongConfirmation},
		{Name: "only the latest id counts", Given: again, When: ConfirmEmail{"s1"}, Err: ErrWrongConfirmation},
		{Name: "confirm the latest", Given: again, When: ConfirmEmail{"s2"}, Then: given{EmailConfirmed{"newer@x.org", "a@x.org"}}},
		{Name: "confirm twice", Given: append(pending[:2:2], EmailConfirmed{"new@x.org", "a@x.org"}), When: ConfirmEmail{"s1"}, Err: ErrWrongConfirmation},
		{Name: "confirm nothing", Given: registered, When: ConfirmEmail{"s1"}, Err: ErrWrongConfirmation},
		{Name: "unregister", Given: registered, When: Unregister{"ill"}, Then: gone[1:]},
		{Name: "unregister twice", Given: gone, When: Unregister{"ill"}, Err: ErrUnregistered},
		{Name: "unregister nobody", When: Unregister{"ill"}, Err: deed.ErrNotFound},
		{Name: "change after leaving", Given: gone, When: ChangeEmail{Email: "b@x.org"}, Err: ErrUnregistered},
		{Name: "confirm after leaving", Given: append(pending[:2:2], Unregistered{"a@x.org", "ill"}), When: ConfirmEmail{"s1"}, Err: ErrUnregistered},
	})
}

func TestDomain(t *testing.T) {
	deedtest.Check(t, Domain)
	deedtest.CheckSchemas(t, Domain)
}
