// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";
import {ForgeTest} from "./Forge.sol";

/// @title An event that the agent of a simulated STM32F103 signed with its secure element, checked by a contract
/// @dev The digest of the image is of no importance here; tests/firmware_host/simulator checks the events of today's agent.
contract SignedEventTest is ForgeTest {
    bytes32 private constant X = 0x3abb2382c4834fde6739d663db3878b53a67840934beb8758f9df1331cfd3a13;
    bytes32 private constant Y = 0xed62845500eec86b2e0fa1600fb1498ada647f8b193d32f7a83254c83768a406;
    bytes32 private constant DIGEST = 0x1c05c0fa61d54ef3465540f389d0ff40b6e3049aaadb76246e27ab7764494620;
    bytes32 private constant R = 0xd46b220b3582dde2f05ee121876bb43aad867cb536759ce65cbb00d9ca2f0700;
    uint256 private constant S = 0xca076ca9e0b03056075284e6dc36b525ca588da73e0c317f5532ad40e44adc78;
    uint32 private constant NUMBER = 4;
    uint8 private constant KIND = 1;
    uint8 private constant DETAIL = 24;

    function test_aContractChecksASignedEvent() external view {
        assert(P256.verify(_signed(NUMBER, KIND, DETAIL, DIGEST), R, _low(S), X, Y));
    }

    function test_theFormWithTheHighSIsRefused() external view {
        assert(!P256.verify(_signed(NUMBER, KIND, DETAIL, DIGEST), R, bytes32(P256.N - uint256(_low(S))), X, Y));
    }

    function testFuzz_noOtherEventHasThisSignature(uint32 number, uint8 kind, uint8 detail, bytes32 digest) external view {
        bool isSame = number == NUMBER && kind == KIND && detail == DETAIL && digest == DIGEST;
        assert(isSame == P256.verify(_signed(number, kind, detail, digest), R, _low(S), X, Y));
        assert(!P256.verify(_signed(number, KIND, DETAIL, DIGEST), R, _low(S), X, Y) || number == NUMBER);
    }

    function _signed(uint32 number, uint8 kind, uint8 detail, bytes32 digest) private pure returns (bytes32) {
        return sha256(abi.encodePacked("blockota-event", number, kind, detail, digest));
    }

    /// @dev What the host does with a signature of the chip.
    function _low(uint256 s) private pure returns (bytes32) {
        return bytes32(s > P256.N / 2 ? P256.N - s : s);
    }
}
