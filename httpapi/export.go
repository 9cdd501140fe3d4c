package httpapi

// ProblemOf returns the problem that the API answers an error of the runtime
// with, so that whoever else takes commands in, such as a folder of files,
// refuses them in the same words and with the same codes.
func ProblemOf(err error) Problem { return problemOf(err) }
