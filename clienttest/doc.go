// Package clienttest generates a Go client of the example bank from its OpenAPI
// document, with oapi-codegen, and plays a scenario with it over real HTTP. It
// is a module of its own, because nobody who uses deed needs a generator.
package clienttest
