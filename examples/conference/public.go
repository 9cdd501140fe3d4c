package conference

import "github.com/deed-dev/deed"

// What the worker of the conference is told of attendees: enough to keep a list
// for the entrance, and to mail whoever has to confirm an address.
type (
	PublicAddress struct {
		Attendee string `json:"attendee"`
		Email    string `json:"email"`
	}
	PublicChange struct {
		Attendee     string `json:"attendee"`
		Email        string `json:"email"`
		Confirmation string `json:"confirmation"` // only who reads mail at the address may learn it
	}
	PublicDeparture struct {
		Attendee string `json:"attendee"`
		Reason   string `json:"reason"`
	}
)

// AttendeeEvents is what the worker works on. The confirmation is in it, so whoever
// may read it could confirm an address that is not theirs: it is for readers, who
// see it in the outbox as well, and for the worker.
var AttendeeEvents = deed.Publication{
	Topic: "attendee-events", Doc: "What the worker of the conference has to know of attendees.", Source: "/conference",
	Events: []deed.Publishing{
		deed.Publish("attendee.registered.v1", func(e deed.Recorded[Registered]) PublicAddress { return PublicAddress{e.ID, e.Event.Email} }),
		deed.Publish("attendee.email-change-requested.v1", func(e deed.Recorded[EmailChangeRequested]) PublicChange {
			return PublicChange{e.ID, e.Event.Email, e.Event.Confirmation}
		}),
		deed.Publish("attendee.email-confirmed.v1", func(e deed.Recorded[EmailConfirmed]) PublicAddress { return PublicAddress{e.ID, e.Event.Email} }),
		deed.Publish("attendee.unregistered.v1", func(e deed.Recorded[Unregistered]) PublicDeparture { return PublicDeparture{e.ID, e.Event.Reason} }),
	},
}
