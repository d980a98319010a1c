// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {CodeRecord} from "../../contracts/CodeRecord.sol";
import {ForgeTest} from "./Forge.sol";

/// @title Records of code with any data
contract CodeRecordTest is ForgeTest {
    function testFuzz_aRecordIsReadAsItWasWritten(bytes calldata data, uint8 start, uint8 length) external {
        address record = CodeRecord.write(data);
        require(keccak256(record.code) == keccak256(abi.encodePacked(hex"00", data)), "code");
        require(CodeRecord.size(record) == data.length, "size");
        bytes memory part = CodeRecord.read(record, start, length);
        require(part.length == length, "length");
        for (uint256 i = 0; i < length; ++i) {
            uint256 place = uint256(start) + i;
            require(part[i] == (place < data.length ? data[place] : bytes1(0)), "byte");
        }
        (bool done, bytes memory answer) = record.call(data);
        require(done && answer.length == 0, "a call does nothing");
    }

    function test_aRecordThatTheGasDoesNotCoverIsRefused() external {
        bytes memory call = abi.encodeCall(this.write, (new bytes(400)));
        (bool done, ) = address(this).call{gas: 100_000}(call);
        require(!done, "written");
        (done, ) = address(this).call{gas: 200_000}(call);
        require(done, "not written");
    }

    /// @notice Writes a record; called externally, so that a failure can be caught.
    function write(bytes calldata data) external returns (address) {
        return CodeRecord.write(data);
    }
}
